"""Finding, loading and checking runners, with real distributions on a real path."""

from __future__ import annotations

import subprocess
import sys

import attrs
import pluggy
import pytest
from click.testing import CliRunner

from axsched_core import AxScheduler, hookimpl
from axsched_core.cli.main import main
from axsched_core.errors import (
    ContractError,
    InvalidInput,
    RunnerError,
    RunnerLoadError,
    RunnerNotFound,
    UnsupportedObjective,
)
from axsched_core.jobs import RunnerInfo
from axsched_core.runners import discovery
from support.plugin_source import A_RUNNER as GOOD
from support.toy import ToyOptimizer, ToyRunner


def test_a_runner_is_chosen_by_its_name(distribution, tmp_path):
    distribution("lab")
    config = {"job_output_dir": tmp_path, "progress": False, "monitoring_interval": 0.05}
    optimizer = ToyOptimizer()
    with AxScheduler(optimizer, "lab", config, {"n_jobs": 3}) as scheduler:
        scheduler.run_optimization(max_trials=2)
    assert optimizer.count("COMPLETED") == 2


def test_only_the_chosen_plugin_is_imported(distribution):
    distribution("lab")
    distribution("broken", "import no_such_module")
    assert discovery.load("lab").info.name == "lab"


def test_an_unknown_name(distribution):
    distribution("slurmish")
    with pytest.raises(RunnerNotFound) as caught:
        discovery.load("slurmich")
    words = str(caught.value)
    assert "No installed package offers a runner named 'slurmich'" in words
    assert "slurmish" in words.split("Did you mean")[0]
    assert "Did you mean 'slurmish'?" in words
    assert "pip install" not in words


@pytest.mark.parametrize("name", ["joblb", "dockr", "my_lab", "", "joblib "])
def test_no_line_to_install_a_name_that_is_not_ours(name):
    """A stranger may have published a package with a misspelt name."""
    with pytest.raises(RunnerNotFound) as caught:
        discovery.load(name)
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize("name", ["joblib", "slurm", "docker"])
def test_our_runners_can_be_installed_if_they_are_missing(monkeypatch, name):
    monkeypatch.setattr(discovery, "installed", list)
    with pytest.raises(RunnerNotFound, match=f"pip install axsched-{name}$") as caught:
        discovery.load(name)
    assert "Did you mean" not in str(caught.value)


def test_a_plugin_that_fails_to_import(distribution):
    distribution("broken", "import no_such_module")
    with pytest.raises(
        RunnerLoadError,
        match=r"Runner 'broken' \(axsched-broken 3.1\) is installed but cannot be imported: "
        r"ModuleNotFoundError: No module named 'no_such_module'.*pip install --force-reinstall",
    ):
        discovery.load("broken")


BROKEN = {
    "exits": (
        "import sys; sys.exit('no licence')",
        RunnerLoadError,
        r"Runner 'bad' \(axsched-bad 3.1\) is installed but cannot be imported: SystemExit: "
        r"no licence\. .*pip install --force-reinstall axsched-bad",
    ),
    "capability": (
        GOOD.replace('["parameters"]', '["parametres"]'),
        ContractError,
        r"Runner 'bad' \(axsched-bad 3.1\): axsched_runner_info raised ValueError: 'parametres' is "
        r"not a valid Capability. .*tell its authors.*pip uninstall axsched-bad",
    ),
    "info exits": (
        GOOD.replace("return RunnerInfo", "raise SystemExit(3)\n        return RunnerInfo"),
        ContractError,
        "axsched_runner_info raised SystemExit: 3",
    ),
    "version": (
        GOOD.replace("VERSION", "(1,)"),
        ContractError,
        r"its api_version is \(1,\), not \(major, minor\)",
    ),
}


@pytest.mark.parametrize(("source", "kind", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_stands_in_nobodys_way(distribution, make, source, kind, words):
    distribution("lab")
    distribution("bad", source)
    with pytest.raises(kind, match=words):
        discovery.load("bad")
    result = CliRunner().invoke(main, ["runners"])
    assert isinstance(result.exception, SystemExit), "one is broken, and nothing else went wrong"
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert "BROKEN" in lines["bad"]
    assert "axsched-lab 3.1  for tests  [parameters]" in lines["lab"]
    # To say who does run containers, all plugins are looked at.
    with pytest.raises(UnsupportedObjective, match="takes no container objective"):
        make(ToyOptimizer(), ToyRunner(capabilities=["script"])).set_container_objective("image")


def test_ctrl_c_while_a_plugin_is_imported_is_ctrl_c(distribution):
    distribution("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discovery.load("slow")


def test_two_distributions_with_one_name(distribution):
    distribution("lab")
    distribution("lab", dist="other-lab")
    with pytest.raises(RunnerLoadError, match=r"axsched-lab 3.1 .* and other-lab 3.1 .*Uninstall"):
        discovery.load("lab")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            "(2, 0)",
            r"version 2.0 of the runner API, but axsched-core .* speaks 1.0. Either upgrade",
        ),
        ("(0, 9)", r"install an axsched-core that speaks 0.x"),
        ("(1, 7)", r"needs version 1.7 of the runner API.*pip install --upgrade axsched-core"),
    ],
)
def test_another_api_version_is_refused_with_the_remedies(distribution, version, words):
    distribution("lab", version=version)
    with pytest.raises(ContractError, match=words):
        discovery.load("lab")


def test_a_plugin_for_an_older_minor_version_works(distribution, monkeypatch, tmp_path):
    distribution("lab")  # written for 1.0
    monkeypatch.setattr(discovery, "API_VERSION", (1, 4))
    optimizer, config = ToyOptimizer(), {"job_output_dir": tmp_path, "progress": False}
    with AxScheduler(optimizer, "lab", config) as scheduler:
        scheduler.run_optimization(max_trials=1)
    assert optimizer.count("COMPLETED") == 1


def test_a_misspelt_hook_of_the_module(distribution):
    distribution("lab", GOOD.replace("axsched_make_runner", "axsched_make_runer"))
    with pytest.raises(
        ContractError,
        match=r"no hook named 'axsched_make_runer'. Did you mean 'axsched_make_runner'",
    ):
        discovery.load("lab")


def test_a_hook_without_its_mark(distribution):
    source = GOOD.replace(
        "    @hookimpl\n    def axsched_make_runner", "    def axsched_make_runner"
    )
    distribution("lab", source)
    with pytest.raises(ContractError, match="axsched_make_runner is defined but not marked with"):
        discovery.load("lab")


def test_a_name_that_differs_from_the_entry_points(distribution):
    distribution("lab", GOOD.replace('"NAME"', '"bench"'))
    with pytest.raises(ContractError, match="calls itself 'bench', but its entry point is named"):
        discovery.load("lab")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_job": 2}, "runner_options of 'lab': unknown key 'n_job'. Did you mean 'n_jobs'"),
        ({"n_jobs": "4"}, "runner_options of 'lab': 'n_jobs' must be int, not str"),
        ({"n_jobs": 0}, "runner_options of 'lab': 'n_jobs' must be > 0: 0"),
        ({"queue": 3}, "runner_options of 'lab': 'queue' must be str, not int"),
        ("fast", "runner_options of 'lab': expected a mapping"),
    ],
)
def test_options_are_checked_before_anything_starts(distribution, options, words):
    distribution("lab")
    with pytest.raises(InvalidInput, match=words):
        AxScheduler(ToyOptimizer(), "lab", {"progress": False}, options)


def test_a_required_option_that_is_missing(distribution):
    distribution("lab", GOOD.replace("queue: str | None = None", "url: str = field(kw_only=True)"))
    with pytest.raises(InvalidInput, match="runner_options of 'lab': 'url' must be given"):
        AxScheduler(ToyOptimizer(), "lab", {"progress": False})


def test_options_go_with_names_only():
    with pytest.raises(InvalidInput, match="runner_options go with a runner's name"):
        AxScheduler(ToyOptimizer(), ToyRunner(), runner_options={"n_jobs": 2})


# ---- instances -------------------------------------------------------------------------------


class Lacking:
    @hookimpl
    def axsched_runner_info(self):
        return RunnerInfo("lacking", ["parameters"])

    @hookimpl
    def axsched_submit(self, requests):
        return []

    def axsched_poll(self, handles):
        return {}


class Misspelt(ToyRunner):
    @hookimpl
    def axsched_fetch_result(self, handles):
        return {}


class Async(ToyRunner):
    @hookimpl
    async def axsched_poll(self, handles):
        return {}


class OtherArguments(ToyRunner):
    @hookimpl
    def axsched_poll(self, jobs):
        return {}


class OldVersion(ToyRunner):
    @hookimpl
    def axsched_runner_info(self):
        return RunnerInfo("old", ["parameters"], api_version=(0, 3))


class NoInfo(ToyRunner):
    @hookimpl
    def axsched_runner_info(self):
        return {"name": "no info"}


@attrs.define
class Unhashable(ToyRunner):
    def __attrs_post_init__(self):
        ToyRunner.__init__(self)


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        (
            Lacking(),
            "lacks the hooks axsched_poll, axsched_fetch_results, axsched_cancel. axsched_po",
        ),
        (Misspelt(), "no hook named 'axsched_fetch_result'. Did you mean 'axsched_fetch_results'"),
        (Async(), "axsched_poll is an `async def`"),
        (OtherArguments(), "jobs"),
        (OldVersion(), "written for version 0.3 of the runner API"),
        (NoInfo(), "axsched_runner_info returned dict, not a RunnerInfo"),
        (Unhashable(), r"needs eq=False"),
        (object(), "implements no hook at all.*axsched runners"),
        (42, "implements no hook at all"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_instance_is_checked_like_a_named_runner(runner, words):
    with pytest.raises(ContractError, match=words):
        AxScheduler(ToyOptimizer(), runner, {"progress": False})


def test_a_class_instead_of_an_instance():
    with pytest.raises(RunnerError, match=r"ToyRunner is a class: write ToyRunner\(...\)"):
        AxScheduler(ToyOptimizer(), ToyRunner, {"progress": False})


def test_a_property_of_a_runner_is_not_evaluated(make):
    class WithProperty(ToyRunner):
        @property
        def temperature(self):
            raise OSError("the thermometer is not connected")

    # pluggy 1.6 evaluates it on registration; an error of a runner's property is not ours.
    if int(pluggy.__version__.split(".")[1]) >= 7:
        make(ToyOptimizer(), WithProperty()).run_optimization(max_trials=1)


@pytest.mark.parametrize(
    ("hook", "answer", "words"),
    [
        ("axsched_submit", None, "axsched_submit must return an answer, but returned None"),
        ("axsched_submit", [], "axsched_submit must return 1 answers"),
        ("axsched_submit", ["job 3"], "must return JobHandle or SubmitError, but returned 'job 3'"),
        ("axsched_poll", None, "axsched_poll must return an answer, but returned None"),
        ("axsched_poll", ["RUNNING"], "must return a mapping from key"),
        ("axsched_capacity", "many", "axsched_capacity must return an int or None"),
    ],
)
def test_answers_that_break_the_contract(make, monkeypatch, hook, answer, words):
    monkeypatch.setattr("axsched_core.runners.calls.FAULTS_BEFORE_GIVING_UP", 1)
    marked = hookimpl(
        {
            "axsched_submit": lambda self, requests: answer,
            "axsched_poll": lambda self, handles: answer,
            "axsched_capacity": lambda self: answer,
        }[hook]
    )
    broken = type("Broken", (ToyRunner,), {hook: marked})(lambda r: None)
    with pytest.raises(RunnerError, match=words):
        make(ToyOptimizer(), broken).run_optimization(max_trials=1)


# ---- wrappers and observers ------------------------------------------------------------------


def test_a_wrapper_sees_every_call(make):
    class Audit:
        seen: list[str] = []

        @hookimpl(wrapper=True)
        def axsched_submit(self, requests):
            handles = yield
            self.seen += [handle.backend_id for handle in handles]
            return handles

    audit = Audit()
    make(plugins=[audit]).run_optimization(max_trials=2)
    assert audit.seen == ["toy-1", "toy-2"]


def test_a_plugin_that_would_stand_in_for_the_runner_is_refused(make):
    class Shadow:
        @hookimpl
        def axsched_on_event(self, event):
            pass

        @hookimpl
        def axsched_poll(self, handles):
            return {}

    runner = ToyRunner()
    with pytest.raises(ContractError, match=r"Plugin .*Shadow implements axsched_poll plainly"):
        make(ToyOptimizer(), runner, plugins=[Shadow()])
    make(ToyOptimizer(), runner)  # the refused one holds nothing back


@pytest.mark.parametrize("plugin", [object(), ToyRunner])
def test_a_plugin_without_hooks_is_refused(make, plugin):
    with pytest.raises(ContractError, match="has no hook: plugins are instances"):
        make(plugins=[plugin])


# ---- the command line ------------------------------------------------------------------------


def test_axsched_runners_lists_all_and_shows_what_is_broken(distribution):
    distribution("lab")
    distribution("broken", "import no_such_module")
    distribution("old", version="(0, 1)")
    result = CliRunner().invoke(main, ["runners"])
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert "axsched-lab 3.1  for tests  [parameters]" in lines["lab"]
    assert "BROKEN" in lines["broken"]
    assert "No module named 'no_such_module'" in lines["broken"]
    assert "version 0.1 of the runner API" in lines["old"]
    assert result.exit_code == 1


def test_axsched_runners_without_any(monkeypatch):
    monkeypatch.setattr(discovery, "installed", list)
    result = CliRunner().invoke(main, ["runners"])
    assert result.exit_code == 0
    assert "pip install axsched-joblib" in result.output


@pytest.mark.parametrize("arguments", [["runners"], ["--help"], ["--version"]])
def test_the_command_never_imports_ax(arguments):
    code = (
        "import sys\n"
        "from axsched_core.cli.main import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "assert not [m for m in sys.modules if m == 'ax' or m.startswith(('ax.', 'torch'))]\n"
        "print('done')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.endswith("done\n"), ran.stderr


def test_a_runner_that_exits_while_it_is_made(distribution):
    distribution("lab", GOOD.replace("runner = Runner()", "raise SystemExit('no licence')"))
    with pytest.raises(RunnerLoadError, match="could not be made: SystemExit: no licence"):
        AxScheduler(ToyOptimizer(), "lab", {"progress": False})
