"""Every check of this repository, in two parts.

`nox` runs the quick part: it needs the Python that runs it and nothing else, and tests no backend.
`nox -t rest` runs what that leaves out. Nothing is in both.

The distributions are built once (`build`) and everything else is done with those wheels, never
with the source tree. Ax is large, so only one environment has it (`full`), which the tests and
the examples share; all other sessions do without. Both are made again when a file has changed that
they are made of, and only then.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True  # a skip is not a pass
nox.options.download_python = "never"
nox.options.sessions = [
    "lint",
    "typecheck",
    "build",
    "tests",
    "examples",
]
REST = ["rest"]
"""The tag of all other sessions but `torture`."""

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
FULL = ROOT / ".nox" / "full"
CONSTRAINTS = ("-c", str(ROOT / "constraints.txt"))
PYTHONS = ("3.11", "3.12", "3.13")
CORE = ROOT
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
WITHOUT_AX = {"ax-platform", "axsched-core"}
"""What is left out where Ax is: Ax itself, and the distribution that asks for it."""
LIGHT_TESTS = ("tests/test_installed.py", "tests/core", "tests/docs")
BACKENDS, HOSTILE = "tests/backends", "tests/hostile"
LONG_TESTS = (
    "tests/torture",
    "tests/faults",
    "tests/core/ax/test_sql.py",
    "tests/core/ax/test_user_changes.py",
    "tests/main_job/test_resume.py",
)
"""Databases, killed drivers, model after model."""
TWO_AT_ONCE = ("-n", "2", "--dist", "loadfile")
"""Most tests wait more than they compute."""
SLOWEST = ("--durations", "12", "--durations-min", "5")
"""Says where the time goes."""
UNDER_TEST = {"AXSCHED_TEST_WHEELS": "1"}
LONG_EXAMPLES = (
    *("docker_zstd.py", "experiment_example.py", "slurm_checkpoint.py", "slurm_day.py"),
    *("early_stopping.py", "tune_digits.py"),
)
"""Those that need a backend, or minutes."""
TEMPLATE = ROOT / "examples" / "runner_template"
TEMPLATE_IN_WHEEL = "axsched_core/cli/runner_template/"


def _files() -> str:
    """A digest of all that the wheels and the environment with Ax are made of."""
    digest = hashlib.sha256(sys.version.encode())
    folders = [ROOT / "axsched_core", ROOT / "plugins", TEMPLATE, ROOT / "requirements"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.suffix in (".toml", ".md", ".txt", ".py")]
    for path in sorted(files):
        if "__pycache__" not in path.parts and path.suffix != ".pyc":
            digest.update(f"{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()


FILES = _files()


def _is_made_of_these_files(folder: Path) -> bool:
    mark = folder / "made-of"
    return mark.is_file() and mark.read_text() == FILES


def _note_the_files(folder: Path) -> None:
    (folder / "made-of").write_text(FILES)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and who may import whom: the contracts in pyproject.toml."""
    session.install(*CONSTRAINTS, "ruff", "import-linter")
    places = os.pathsep.join(map(str, (CORE, *PLUGINS)))
    commands = [["ruff", "check", "."], ["ruff", "format", "--check", "."]]
    _run_all(session, *commands, ["lint-imports", "--no-logo"], env={"PYTHONPATH": places})


@nox.session
def typecheck(session: nox.Session) -> None:
    """Types, strictly. What Ax and joblib return is not looked at, so Ax is not needed."""
    session.install(*CONSTRAINTS, "mypy", "pytest", *_needs(CORE, *PLUGINS))
    packages = ["axsched_core", *(str((path / path.name).relative_to(ROOT)) for path in PLUGINS)]
    session.run("mypy", "--strict", *packages)


@nox.session(reuse_venv=True)
def build(session: nox.Session) -> None:
    """Sdists, wheels from the sdists, and a look into both."""
    if _is_made_of_these_files(DIST):
        session.log("built before, of the same files")
        return
    session.install(*CONSTRAINTS, "build", "hatchling")
    shutil.rmtree(DIST, ignore_errors=True)
    for folder in (CORE, *PLUGINS):
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(DIST), str(folder))
        for problem in [*_wheel_problems(folder), *_sdist_problems(folder)]:
            session.error(f"{folder.name}: {problem}")
    session.log("built and checked: %s", ", ".join(sorted(path.name for path in DIST.iterdir())))
    _note_the_files(DIST)


@nox.session(requires=["build"], tags=REST)
@nox.parametrize("plugin", PLUGINS, ids=[path.name for path in PLUGINS])
def only_one(session: nox.Session, plugin: Path) -> None:
    """Each plugin beside the core alone: what it declares is enough, and it works."""
    session.install(*CONSTRAINTS, "pytest", "pytest-timeout", *_needs(CORE, plugin))
    _install_wheels(session, CORE, plugin)
    session.run("axsched", "runners")
    env = UNDER_TEST | {"AXSCHED_TEST_ONLY": _only_entry(plugin)}
    session.run("pytest", "tests/test_installed.py", env=env)


@nox.session(requires=["build"], tags=REST)
def template(session: nox.Session) -> None:
    """The template of a runner, built and installed beside the core alone, and a copy of it."""
    session.install(*CONSTRAINTS, "hatchling", "pytest", *_needs(CORE, TEMPLATE))
    session.run("pip", "uninstall", "-qy", "axsched-robot", "axsched-demo")  # of an earlier run
    _install_wheels(session, CORE)
    folder = Path(session.create_tmp()) / "template"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    session.run("axsched", "new-runner", "demo", "--into", str(folder))
    for source, name in ((TEMPLATE, "robot"), (folder / "axsched-demo", "demo")):
        wheels = folder / f"wheel-of-{name}"
        build = ("pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels))
        session.run(*build, str(source))
        (wheel,) = wheels.iterdir()
        session.install("--no-deps", "--force-reinstall", str(wheel))
        # Without the package beside them the tests can only import what was installed.
        alone = folder / f"tests-of-{name}"
        shutil.copytree(source / "tests", alone / "tests")
        shutil.copy(source / "pyproject.toml", alone)
        with session.chdir(alone):
            session.run("pytest")
    session.run("axsched", "runners")


@nox.session(python=PYTHONS[1:], requires=["build"], tags=REST)
def other_pythons(session: nox.Session) -> None:
    """What can be tested without Ax, on the newer Pythons; `oldest_pluggy` has the oldest."""
    session.install(*CONSTRAINTS, "-r", "requirements/core.txt")
    _install_wheels(session, CORE, *PLUGINS)
    where = session.posargs or [*LIGHT_TESTS, "tests/plugins"]
    session.run("pytest", "-m", "not ax", *TWO_AT_ONCE, *where, env=UNDER_TEST)


@nox.session(requires=["build"], tags=REST)
def oldest_pluggy(session: nox.Session) -> None:
    """The contract rests on pluggy: its oldest supported version (the newest is in the others)."""
    session.install(*CONSTRAINTS, "-r", "requirements/core.txt")
    session.install("pluggy==1.5.0")
    _install_wheels(session, CORE, *PLUGINS)
    session.run("pytest", "-m", "not ax", *TWO_AT_ONCE, *LIGHT_TESTS, env=UNDER_TEST)


@nox.session(requires=["build"], reuse_venv=_is_made_of_these_files(FULL))
def full(session: nox.Session) -> None:
    """The environment with Ax, for all sessions below."""
    if _is_made_of_these_files(FULL):
        session.log("made before, of the same files")
        return
    wheels = [f"{_wheel(path)}{_extras(path)}" for path in (CORE, *PLUGINS)]
    needs = ("-r", "requirements/test.txt", "-r", "requirements/examples.txt")
    session.install(*CONSTRAINTS, *needs, *wheels)
    session.run("python", "-m", "pip", "check")
    _note_the_files(FULL)


@nox.session(requires=["full"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """The quick tests, with Ax: all that need no backend and take no minutes."""
    apart = [f"--ignore={path}" for path in (BACKENDS, HOSTILE, *LONG_TESTS)]
    _pytest(session, "tests", *apart, *TWO_AT_ONCE)


@nox.session(requires=["full"], venv_backend="none", tags=REST)
def long_tests(session: nox.Session) -> None:
    """The other tests that need no backend."""
    _pytest(session, *LONG_TESTS, *TWO_AT_ONCE)


@nox.session(requires=["full"], venv_backend="none", tags=REST)
def backends(session: nox.Session) -> None:
    """The tests with Slurm, Docker, Podman and PostgreSQL; see `tests/backends/install.sh`."""
    _pytest(session, BACKENDS)


@nox.session(requires=["full"], venv_backend="none", tags=REST)
def hostile(session: nox.Session) -> None:
    """The tests that attack, by themselves: they see whether something touches this machine."""
    _pytest(session, HOSTILE)


@nox.session(requires=["full"], venv_backend="none")
def torture(session: nox.Session) -> None:
    """tests/torture at length: each test of random moments kills 200 drivers. Not one of all."""
    _pytest(session, "tests/torture", env={"AXSCHED_TEST_KILLS": "200"})


@nox.session(requires=["full"], venv_backend="none")
def examples(session: nox.Session) -> None:
    """The quick examples, as a user runs them."""
    _run_examples(session, lambda name: name not in LONG_EXAMPLES)


@nox.session(requires=["full"], venv_backend="none", tags=REST)
def long_examples(session: nox.Session) -> None:
    """The other examples."""
    _run_examples(session, lambda name: name in LONG_EXAMPLES)


@nox.session(requires=["full"], venv_backend="none", tags=REST)
def bench_small(session: nox.Session) -> None:
    """The benchmarks in a small form: they work. No time is looked at."""
    session.run(_full("python"), "benchmarks/run_all.py", "--quick", external=True)


@nox.session(requires=["build"])
def bench(session: nox.Session) -> None:
    """The benchmarks, which write docs/performance.md: hours on a quiet machine. Not one of all."""
    wheels = [f"{_wheel(path)}{_extras(path)}" for path in (CORE, *PLUGINS)]
    needs = [f"-r{path}" for path in sorted(ROOT.glob("requirements/*.txt"))]
    session.install(*CONSTRAINTS, *needs, *wheels)
    session.run("python", "benchmarks/run_all.py", *session.posargs)


def _pytest(session: nox.Session, *chosen: str, env: Mapping[str, str] | None = None) -> None:
    """Run these tests, or those that the command line names, in the environment with Ax."""
    command = [_full("pytest"), *(session.posargs or chosen), *SLOWEST]
    session.run(*command, env=UNDER_TEST | (env or {}), external=True)


def _run_examples(session: nox.Session, wanted: Callable[[str], bool]) -> None:
    scripts = sorted([*ROOT.glob("examples/*.py"), *ROOT.glob("examples/*/tune_*.py")])
    commands = [[_full("python"), str(path)] for path in scripts if wanted(path.name)]
    if not commands:
        session.error("there are no examples")
    folder = ROOT / ".nox" / f"outputs-of-{session.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with session.chdir(folder):
        _run_all(session, *commands, external=True)


def _run_all(session: nox.Session, *commands: Sequence[str], **more: Any) -> None:
    """Run each, also where one before has failed, and fail then."""
    failed = []
    for command in commands:
        try:
            session.run(*command, **more)
        except CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error(f"failed: {'; '.join(failed)}")


def _full(program: str) -> str:
    return str(FULL / "bin" / program)


def _project(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _needs(*folders: Path) -> list[str]:
    """What these distributions declare, without Ax."""
    return sorted(
        {
            requirement
            for folder in folders
            for requirement in _project(folder)["dependencies"]
            if re.match(r"[\w.-]+", requirement)[0] not in WITHOUT_AX
        }
    )


def _extras(folder: Path) -> str:
    names = sorted(_project(folder).get("optional-dependencies", {}))
    return f"[{','.join(names)}]" if names else ""


def _only_entry(folder: Path) -> str:
    (name,) = _project(folder)["entry-points"]["axsched.runners"]
    return name


def _stem(folder: Path) -> str:
    project = _project(folder)
    return f"{project['name'].replace('-', '_')}-{project['version']}"


def _wheel(folder: Path) -> Path:
    return DIST / f"{_stem(folder)}-py3-none-any.whl"


def _install_wheels(session: nox.Session, *folders: Path) -> None:
    session.install("--no-deps", "--force-reinstall", *(str(_wheel(path)) for path in folders))


def _wheel_problems(folder: Path) -> list[str]:
    """What is wrong with a built wheel."""
    project, info = _project(folder), f"{_stem(folder)}.dist-info"
    package = project["name"].replace("-", "_")
    with zipfile.ZipFile(_wheel(folder)) as wheel:
        names = wheel.namelist()
        entries = configparser.ConfigParser(delimiters="=")
        if f"{info}/entry_points.txt" in names:
            entries.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    wanted = dict(project.get("entry-points", {}))
    if "scripts" in project:
        wanted["console_scripts"] = project["scripts"]
    found = {group: dict(entries[group]) for group in entries.sections()}
    problems = []
    if found != wanted:
        problems.append(f"the wheel's entry points are {found}, not {wanted}")
    for name in (f"{package}/py.typed", f"{package}/__init__.py", f"{info}/licenses/LICENSE"):
        if name not in names:
            problems.append(f"the wheel has no {name}")
    if strangers := sorted({name.split("/")[0] for name in names} - {package, info}):
        problems.append(f"the wheel has {strangers} beside {package}")
    ours = [name for name in names if not name.startswith(TEMPLATE_IN_WHEEL)]
    if tests := [name for name in ours if re.search(r"(^|/)(tests?|conftest\.py)(/|$)", name)]:
        problems.append(f"the wheel has tests: {tests}")
    if folder == CORE and f"{TEMPLATE_IN_WHEEL}pyproject.toml" not in names:
        problems.append("the wheel lacks the template of `axsched new-runner`")
    return problems


def _sdist_problems(folder: Path) -> list[str]:
    """What is wrong with an sdist; that a wheel can be made of it was seen when it was built."""
    stem = _stem(folder)
    with tarfile.open(DIST / f"{stem}.tar.gz") as sdist:
        names = {name.removeprefix(f"{stem}/") for name in sdist.getnames()}
    needed = {"LICENSE", "README.md", "pyproject.toml"} | ({"CHANGELOG.md"} & set(os.listdir(CORE)))
    problems = [
        f"the sdist has no {name}"
        for name in sorted(needed)
        if name not in names and (name != "CHANGELOG.md" or folder == CORE)
    ]
    if tests := sorted(name for name in names if name.split("/")[0] in ("tests", ".ci")):
        problems.append(f"the sdist has tests: {tests}")
    return problems


def _show_pyenv_pythons() -> None:
    """Where pyenv hides all Pythons but one behind shims that fail, have it show those we need."""
    pyenv = shutil.which("pyenv")
    if pyenv is None or "PYENV_VERSION" in os.environ:
        return

    def ask(*arguments: str) -> list[str]:
        return subprocess.run(
            [pyenv, *arguments], capture_output=True, text=True, check=False
        ).stdout.split()

    installed = ask("versions", "--bare")
    shown = ask("version-name")[:1]
    for python in PYTHONS:
        patches = [name for name in installed if re.fullmatch(rf"{re.escape(python)}\.\d+", name)]
        if patches and f"{sys.version_info.major}.{sys.version_info.minor}" != python:
            shown.append(max(patches, key=lambda name: int(name.rpartition(".")[2])))
    os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(shown))


_show_pyenv_pythons()
