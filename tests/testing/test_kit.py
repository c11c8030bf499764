"""The conformance kit itself: a right runner passes it, each wrong one fails the right case."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from support import IMPORT_ROOT, kit_runners

pytest_plugins = ["pytester"]

KIT = """
    import psutil
    import pytest
    from support import kit_runners
    from axsched_core.testing import RunnerConformance

    class TestRunner(RunnerConformance):
        runner_name = {name!r}

        @pytest.fixture
        def runner(self):
            return kit_runners.{runner}()

        @pytest.fixture
        def make_runner(self, runner):
            return lambda: runner

        @pytest.fixture
        def foreign_objective(self):
            from axsched_core.jobs import ContainerObjective
            return ContainerObjective("image")

        @pytest.fixture
        def patience(self):
            return {patience}

        @pytest.fixture
        def backend_calls(self, runner):
            return lambda: runner.calls

        @pytest.fixture
        def outage(self, runner):
            return runner.outage

        @pytest.fixture
        def answer_lost(self, runner):
            return runner.answer_lost

        @pytest.fixture
        def leftovers(self):
            def find(run_id):
                found = []
                for process in psutil.process_iter():
                    try:
                        place = process.cwd()
                    except (psutil.NoSuchProcess, psutil.AccessDenied):
                        continue
                    if run_id in place:
                        found.append(process.pid)
                return found

            yield find
"""


@pytest.fixture
def kit(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run the kit, or one case of it, on one of `kit_runners`."""
    site = pytester.path / "site"
    meta = site / "axsched_right-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: axsched-right\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[axsched.runners]\nright = support.kit_runners\n")
    monkeypatch.setenv("PYTHONPATH", f"{site}:{IMPORT_ROOT}")
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = '-p no:cacheprovider'\n")

    def run(runner: str, case: str = "", patience: float = 20.0) -> pytest.RunResult:
        name = "" if runner == "PromisesMoreThanItHas" else "right"
        pytester.makepyfile(KIT.format(runner=runner, patience=patience, name=name))
        return pytester.runpytest_subprocess("-rs", *(["-k", case] if case else []))

    yield run
    for process in processes_in(pytester.path):
        process.kill()


def processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join([process.cwd(), *process.cmdline()])
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if str(folder) in words and process.pid != os.getpid():  # pytester changes directory
            found.append(process)
    return found


def test_a_right_runner_passes_all_and_says_what_was_not_tested(kit):
    result = kit("RightRunner")
    result.assert_outcomes(passed=35, skipped=1)
    result.stdout.fnmatch_lines(["*not tested: parameters_for('late') is None"])


BROKEN = [
    ("DoneWhenGone", "unknown_job"),
    ("DropsOne", "as_many_and_in_the_order"),
    ("MixesUpTheOrder", "as_many_and_in_the_order"),
    ("OneBadSpoilsAll", "one_bad_request"),
    ("CallsAFinalRefusalTransient", "one_bad_request"),
    ("SubmitsTwice", "same_key_twice"),
    ("ForgetsWhatItTook", "answer_is_lost"),
    ("SwallowsAnOutage", "an_outage_is_told"),
    ("TakesAnOutageForTheEnd", "an_outage_is_told"),
    ("Leaks", "leaves_nothing_behind"),
    ("Leaks", "cancel_a_running_job"),
    ("CancelsAllForOne", "cancel_a_running_job"),
    ("ChokesOnTheFinished", "cancel_twice"),
    ("CallsAllThatEndDone", "job_that_fails"),
    ("CallsAllThatEndDone", "non_zero_exit"),
    ("CallsAllThatEndDone", "death_by_signal"),
    ("LosesTheExitCode", "non_zero_exit"),
    ("MakesUpAResult", "unknown_job"),
    ("ForgetsWhatHasEnded", "finished_job_stays"),
    ("ReturnsNone", "empty_batches"),
    ("QuotesBadly", "awkward_parameters"),
    ("MixesTheStreams", "50_megabytes"),
    ("ReadsHalfLines", "whole_lines"),
    ("AsksJobByJob", "200_jobs"),
    ("HandlesThatJsonCannotHold", "survive_json"),
    ("LosesTheEnvironment", "environment"),
    ("WritesTheEnvironmentDown", "environment"),
    ("NeverWakes", "it_pushes"),
    ("IgnoresTimeLimits", "a_time_limit"),
    ("CapacityThatNeverChanges", "capacity_counts"),
    ("GuessesInAnOutage", "does_not_guess"),
    ("PromisesMoreThanItHas", "says_what_it_is"),
    ("BoundToItsThread", "another_thread"),
    ("OnlySaysThatItRemoves", "left_is_listed_and_removed"),
]


@pytest.mark.parametrize(("runner", "case"), BROKEN)
def test_a_broken_runner_is_caught_by_the_case_meant_for_it(kit, runner, case):
    result = kit(runner, case, patience=2.0)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) == 1, result.stdout.str()
    assert "passed" not in outcomes


def test_every_broken_runner_is_in_the_list():
    broken = {
        name
        for name, one in vars(kit_runners).items()
        if isinstance(one, type)
        and issubclass(one, kit_runners.RightRunner)
        and one is not kit_runners.RightRunner
    }
    assert broken == {runner for runner, _ in BROKEN}
