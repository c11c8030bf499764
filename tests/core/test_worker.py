"""The worker alone: a job's folder in, the files of the protocol out."""

from __future__ import annotations

import concurrent.futures
import ctypes
import json
import math
import multiprocessing
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from axsched_core import imports, jobfolder
from axsched_core.jobs import (
    Cause,
    FunctionObjective,
    JobRequest,
    JobState,
    JobStatus,
    Resources,
    ScriptObjective,
)
from axsched_core.worker import axsched_worker as worker
from support.pipe import Pipe
from support.waiting import wait_until

# The jobs cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


class Jobs:
    """Makes jobs and runs them as a batch system would: a fresh interpreter each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0
        self._env: dict[Path, Mapping[str, str]] = {}

    def make(
        self,
        objective: Callable[..., Any] | ScriptObjective,
        parameters: Mapping[str, Any] | None = None,
        *,
        keywords: bool = False,
        python: tuple[int, int] = (sys.version_info.major, sys.version_info.minor),
        time_limit: float | None = None,
        max_result_bytes: int = 1_000_000,
    ) -> Path:
        self._count += 1
        function_file = None
        if not isinstance(objective, ScriptObjective):
            function_file = self.root / f"{self._count}.pkl"
            function_file.write_bytes(cloudpickle.dumps(objective))
            objective = FunctionObjective(objective.__name__, keywords, python)
        request = JobRequest(
            key=f"run-{self._count}-1",
            trial_index=self._count,
            attempt=1,
            parameters=parameters or {},
            folder=self.root / f"job{self._count}",
            objective=objective,
            resources=Resources(time_limit=time_limit),
        )
        jobfolder.prepare(request, function_file=function_file, max_result_bytes=max_result_bytes)
        self._env[request.folder] = jobfolder.environment(request)
        return request.folder

    def start(
        self,
        folder: Path,
        *options: str,
        python: Sequence[str] = (sys.executable,),
        **keywords: Any,
    ) -> subprocess.Popen[bytes]:
        command = [*python, str(folder / jobfolder.WORKER), str(folder), *options]
        env = {**keywords.pop("env", os.environ), **self._env[folder]}
        return subprocess.Popen(command, env=env, **keywords)

    def run(self, *args: Any, **keywords: Any) -> tuple[Path, JobStatus]:
        folder = self.make(*args, **keywords)
        self.start(folder).wait(timeout=60)
        return folder, ending(folder)


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


def ending(folder: Path) -> JobStatus:
    status = jobfolder.read_exit(folder)
    assert status is not None, f"no exit.json: {sorted(os.listdir(folder))}"
    return status


def result(folder: Path) -> Any:
    return json.loads((folder / jobfolder.RESULT).read_text())


def gone(*pids: int, within: float) -> bool:
    """Wait until processes have ended."""
    deadline = time.monotonic() + within
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(descriptor)
    return True


# ------------------------------------------------------------------ functions that return


def test_a_function_gets_its_parameters_and_leaves_its_result(jobs: Jobs) -> None:
    def objective(parameters: dict[str, Any]) -> dict[str, Any]:
        return {"loss": (parameters["x"] ** 2, None)}

    folder, status = jobs.run(objective, {"x": 3})

    assert result(folder) == {"loss": [9, None]}
    assert (status.state, status.cause, status.exit_code) == (JobState.SUCCEEDED, None, 0)
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.ended_at >= status.started_at
    assert status.host == os.uname().nodename
    data = json.loads((folder / jobfolder.EXIT).read_text())
    assert 1_000_000 < data["max_rss_bytes"] < 10_000_000_000
    assert not list(folder.glob("*.tmp"))


def test_keywords(jobs: Jobs) -> None:
    folder, _ = jobs.run(lambda x, y: x - y, {"x": 3, "y": 1}, keywords=True)
    assert result(folder) == 2


def test_numpy_and_torch_values_become_plain_numbers(jobs: Jobs) -> None:
    def objective(_: Any) -> dict[str, Any]:
        import numpy as np

        class FakeTensor:  # what torch's and JAX's scalars have in common
            ndim = 0

            def item(self) -> float:
                return 2.5

        return {
            "a": np.float32(1.5),
            "b": (np.int64(2), np.array(0.5)),
            "c": {"mean": FakeTensor(), "sem": None},
            "d": float("nan"),
        }

    folder, status = jobs.run(objective)
    values = result(folder)
    assert status.state is JobState.SUCCEEDED
    assert math.isnan(values.pop("d"))
    assert values == {"a": 1.5, "b": [2, 0.5], "c": {"mean": 2.5, "sem": None}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the function returned NoneType"),
        ("0.5", "the function returned str"),
        ([1, 2, 3], "the function returned list"),
        (1j, "the function returned complex"),
        ("array", "the function returned ndarray of shape (3,)"),
    ],
)
def test_other_values_are_refused_in_words(jobs: Jobs, value: Any, words: str) -> None:
    def objective(_: Any) -> Any:
        if value == "array":
            import numpy as np

            return np.zeros(3)
        return value

    folder, status = jobs.run(objective)
    assert status.cause is Cause.RESULT_INVALID
    assert words in status.message
    assert "return a number" in status.message
    assert not (folder / jobfolder.RESULT).exists()


def test_what_a_function_closes_over_starts_anew_in_every_job(jobs: Jobs) -> None:
    import random

    generator, calls = random.Random(0), [0]

    def objective(_: Any) -> dict[str, Any]:
        calls[0] += 1
        return {"drawn": generator.random(), "calls": calls[0], "other": random.random()}

    first, second = (result(jobs.run(objective)[0]) for _ in range(2))
    assert first["drawn"] == second["drawn"]
    assert first["calls"] == second["calls"] == 1
    assert first["other"] != second["other"]
    assert calls == [0]


def test_a_function_s_extras_and_notes_are_passed_on_for_the_core_to_judge(jobs: Jobs) -> None:
    def objective(_: Any) -> Any:
        import numpy as np

        class Broken:
            ndim = 0

            def item(self) -> float:
                raise RuntimeError("no device")

        return {
            "loss": np.float64(1.5),
            "note": "x" * 5000,
            "trace": [1, 2, 3],
            "field": np.zeros((2, 3)),
            "broken": Broken(),
            ("a", 1): 2.0,
            "nothing": None,
            "notes": {"mesh": np.int64(3), "sizes": np.array([1, 2]), "at": os.sep, (1, 2): 3},
        }

    folder, status = jobs.run(objective)
    assert status.state is JobState.SUCCEEDED
    found = result(folder)
    assert found.pop("note") == "x" * 100 + "..."
    assert found == {
        "loss": 1.5,
        "trace": "<list of 3 items>",
        "field": "<ndarray of shape (2, 3)>",
        "broken": "<Broken: RuntimeError: no device>",
        "('a', 1)": "<its name is no str>",
        "nothing": None,
        "notes": {"mesh": 3, "sizes": [1, 2], "at": os.sep, "(1, 2)": 3},
    }


def test_notes_of_a_function_never_make_its_result_too_large(jobs: Jobs) -> None:
    folder, status = jobs.run(lambda _: {"loss": 1.0, "notes": "x" * 1000}, max_result_bytes=500)
    assert status.state is JobState.SUCCEEDED
    assert result(folder) == {"loss": 1.0, "notes": "<left out: 1002 bytes>"}


def test_notes_that_json_cannot_hold_are_passed_on_in_words(jobs: Jobs) -> None:
    def objective(_: Any) -> Any:
        circle: list[Any] = []
        circle.append(circle)
        return {"loss": 1.0, "notes": circle}

    assert result(jobs.run(objective)[0]) == {"loss": 1.0, "notes": "[[...]]"}


def test_a_result_over_the_limit_is_refused(jobs: Jobs) -> None:
    folder, status = jobs.run(
        lambda _: {f"metric{i}": 1.0 for i in range(100)}, max_result_bytes=500
    )
    assert status.cause is Cause.RESULT_INVALID
    assert "more than the limit of 500" in status.message
    assert not (folder / jobfolder.RESULT).exists()


def test_no_job_sees_another_s_directory_or_environment(jobs: Jobs) -> None:
    def objective(_: Any) -> float:
        assert "LEFT_BY_A_JOB" not in os.environ
        assert os.getcwd() == os.environ["AXSCHED_JOB_DIR"]
        os.environ["LEFT_BY_A_JOB"] = "1"
        os.chdir("/")
        return 1.0

    for _ in range(2):
        assert jobs.run(objective)[1].state is JobState.SUCCEEDED
    assert "LEFT_BY_A_JOB" not in os.environ


def test_the_environment_names_the_protocol_s_files(jobs: Jobs) -> None:
    def objective(_: Any) -> float:
        print(json.dumps(dict(os.environ)))
        return 0.0

    folder, _ = jobs.run(objective)
    env = json.loads((folder / jobfolder.STDOUT).read_text())
    assert env["AXSCHED_JOB_DIR"] == str(folder)
    assert env["AXSCHED_PARAMS_FILE"] == env["JOB_PARAMS_FILE"] == str(folder / "params.json")
    assert env["AXSCHED_RESULT_FILE"] == str(folder / "result.json")
    assert env["AXSCHED_PROGRESS_FILE"] == str(folder / "progress.jsonl")
    assert (env["AXSCHED_TRIAL_INDEX"], env["AXSCHED_ATTEMPT"]) == ("1", "1")


def test_threads_limit_what_the_user_has_not_set(jobs: Jobs) -> None:
    names = list(worker.THREAD_VARIABLES)

    def objective(_: Any) -> float:
        print([os.environ.get(name) for name in names])
        return 0.0

    folder = jobs.make(objective)
    job = json.loads((folder / jobfolder.JOB).read_text())
    (folder / jobfolder.JOB).write_text(json.dumps(dict(job, threads=3)))
    env = {k: v for k, v in os.environ.items() if k not in names} | {"MKL_NUM_THREADS": "7"}
    jobs.start(folder, env=env).wait(timeout=60)
    assert (folder / jobfolder.STDOUT).read_text().strip() == "['3', '3', '7', '3', '3']"


def test_fifty_megabytes_of_each_stream_stay_apart(jobs: Jobs) -> None:
    def objective(_: Any) -> float:
        for _ in range(50):
            sys.stdout.write("o" * 1_000_000)
            sys.stderr.write("e" * 1_000_000)
        return 1.0

    folder, status = jobs.run(objective)
    assert status.state is JobState.SUCCEEDED
    assert (folder / jobfolder.STDOUT).read_bytes() == b"o" * 50_000_000
    assert (folder / jobfolder.STDERR).read_bytes() == b"e" * 50_000_000


# ------------------------------------------------------------------ functions that do not


def test_an_exception_leaves_its_traceback(jobs: Jobs) -> None:
    def inner() -> None:
        raise ValueError("the\nvalue is 'odd'")

    def objective(_: Any) -> None:
        print("before")
        inner()

    folder, status = jobs.run(objective)
    assert (status.state, status.cause, status.exit_code) == (JobState.FAILED, Cause.EXCEPTION, 1)
    assert status.message == "ValueError: the"
    traceback = (folder / jobfolder.STDERR).read_text()
    assert traceback.startswith("Traceback (most recent call last):")
    assert "in inner" in traceback
    assert "_run_function" not in traceback
    assert (folder / jobfolder.STDOUT).read_text() == "before\n"


def test_memory_error(jobs: Jobs) -> None:
    def objective(_: Any) -> None:
        bytearray(1 << 60)

    assert jobs.run(objective)[1].cause is Cause.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("how", "code", "cause", "words"),
    [
        ("sys.exit(3)", 3, Cause.EXIT_CODE, "sys.exit(3)"),
        ("sys.exit('bad data')", 1, Cause.EXIT_CODE, "bad data"),
        ("sys.exit()", 0, Cause.RESULT_INVALID, "returned no value"),
        ("os._exit(5)", 5, Cause.EXIT_CODE, "ended with exit code 5"),
        ("os._exit(0)", 0, Cause.RESULT_INVALID, "before the function had returned"),
    ],
)
def test_a_function_that_exits(jobs: Jobs, how: str, code: int, cause: Cause, words: str) -> None:
    def objective(_: Any) -> None:
        exec(how, {"os": os, "sys": sys})

    _, status = jobs.run(objective)
    assert (status.state, status.cause, status.exit_code) == (JobState.FAILED, cause, code)
    assert words in status.message


def test_segmentation_fault(jobs: Jobs) -> None:
    def objective(_: Any) -> None:
        print("still here")
        ctypes.string_at(0)

    folder, status = jobs.run(objective)
    assert (status.cause, status.signal) == (Cause.SIGNAL, signal.SIGSEGV)
    assert "segmentation fault" in status.message
    assert "still here" in (folder / jobfolder.STDOUT).read_text()
    assert "Current thread" in (folder / jobfolder.STDERR).read_text()


def test_sigkill_speaks_of_memory(jobs: Jobs) -> None:
    _, status = jobs.run(lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert (status.cause, status.signal) == (Cause.SIGNAL, signal.SIGKILL)
    assert "out-of-memory" in status.message


def test_another_python_is_told_so_before_anything_is_loaded(jobs: Jobs) -> None:
    folder = jobs.make(lambda _: 1.0, python=(3, 7))
    (folder / jobfolder.FUNCTION).unlink()
    jobs.start(folder).wait(timeout=60)
    status = ending(folder)
    assert status.cause is Cause.LOAD_ERROR
    assert "pickled by Python 3.7 but this is Python 3." in status.message
    assert sys.executable in status.message


def test_a_missing_module_is_named(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("def objective(parameters): return 1.0\n")
    dump = "import pickle, only_here, sys; pickle.dump(only_here.objective, sys.stdout.buffer)"
    pickled = subprocess.check_output([sys.executable, "-c", dump], cwd=tmp_path)
    folder = jobs.make(lambda _: 1.0)
    (folder / jobfolder.FUNCTION).unlink()
    (folder / jobfolder.FUNCTION).write_bytes(pickled)
    again = jobs.make(lambda _: 1.0)
    (again / jobfolder.FUNCTION).unlink()
    (again / jobfolder.FUNCTION).write_bytes(pickled)
    job = json.loads((again / jobfolder.JOB).read_text())
    (again / jobfolder.JOB).write_text(json.dumps(dict(job, sys_path=[str(tmp_path)])))

    jobs.start(folder).wait(timeout=60)
    assert ending(folder).cause is Cause.LOAD_ERROR
    assert "no module 'only_here'" in ending(folder).message

    jobs.start(again).wait(timeout=60)
    assert ending(again).state is JobState.SUCCEEDED


def test_a_job_s_search_path_begins_as_the_driver_s() -> None:
    job = {"sys_path": ["/mine", "/usr/lib", "/site", "/end"], "sys_path_front": 1}
    here = ["/job", "/usr/lib", "/site", "/node"]
    same = worker.import_path({**job, "sys_prefix": sys.prefix}, here)
    assert same == ["/mine", "/usr/lib", "/site", "/end", "/job", "/node"]
    assert worker.import_path(job, here) == same
    # Another environment's own folders are before those of the driver's.
    other = ["/job", "/venv/lib", "/venv/site"]
    assert worker.import_path({**job, "sys_prefix": "/elsewhere"}, other) == [
        *["/mine", "/job", "/venv/lib", "/venv/site"],
        *["/usr/lib", "/site", "/end"],
    ]
    assert worker.import_path({}, here) == here


def test_what_stands_before_python_s_own_folders_is_the_user_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = [path for path in sys.path if path.startswith(os.path.dirname(os.__file__))]
    monkeypatch.setattr(sys, "path", ["", "sub", *own, "/end"])
    places = imports.places("/there")
    assert places["sys_path"] == ["/there", "/there/sub", *own, "/end"]
    assert (places["sys_path_front"], places["sys_prefix"]) == (2, sys.prefix)


OTHERS = sorted({"3.7", "3.8", "3.9", "3.11", "3.12"} - {".".join(map(str, sys.version_info[:2]))})


@pytest.mark.parametrize("version", OTHERS)
def test_other_python_versions_run_scripts(jobs: Jobs, version: str) -> None:
    python = find_python(version)
    folder = jobs.make(script(jobs.root, 'echo "{\\"a\\": 1}" > "$AXSCHED_RESULT_FILE"'))
    subprocess.run([python, str(folder / jobfolder.WORKER), str(folder)], check=True, timeout=60)
    assert ending(folder).state is JobState.SUCCEEDED
    assert result(folder) == {"a": 1}
    refused = jobs.make(lambda _: 1.0)
    command = [python, str(refused / jobfolder.WORKER), str(refused)]
    assert subprocess.run(command, timeout=60).returncode == 1
    assert f"this is Python {version}" in ending(refused).message


def find_python(version: str) -> str:
    """A working interpreter of that version, on PATH or under pyenv's root; skips without."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in [*sorted(root.glob(f"{version}.*/bin/python")), f"python{version}"]:
        show = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            if subprocess.run(show, capture_output=True, text=True).stdout.strip() == version:
                return str(candidate)
        except OSError:
            continue
    pytest.skip(f"there is no Python {version} here")


# ------------------------------------------------------------------ scripts


def script(root: Path, body: str, **keywords: Any) -> ScriptObjective:
    number = len(list(root.glob("*.sh")))
    path = root / f"script{number}.sh"
    path.write_text("#!/bin/sh\n" + textwrap.dedent(body) + "\n")
    path.chmod(0o755)
    return ScriptObjective((str(path),), **keywords)


def test_odd_parameters_arrive_in_a_script_as_they_are(jobs: Jobs) -> None:
    odd = {
        "quote": 'it\'s "quoted" `id` $(touch /tmp/x) $HOME ; rm -rf \\',
        "lines": "a\nb\r\tc\0d",
        "unicode": "Zürich ☃ 🦔 \udc80",
        "-flag": "--help",
        "number": 0.1 + 0.2,
        "big": 2**60,
        "flag": True,
        "nothing": None,
    }
    copy = script(
        jobs.root, 'cat "$AXSCHED_PARAMS_FILE" > out; cat "$JOB_PARAMS_FILE" "$@" > /dev/null'
    )
    folder, status = jobs.run(copy, odd)
    assert status.state is JobState.SUCCEEDED
    assert json.loads((folder / "out").read_text()) == odd


def test_arguments_and_environment_are_not_seen_by_a_shell(jobs: Jobs) -> None:
    odd = ["a b", "$(id)", "'", '"', "new\nline", "*", ""]
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['ODD']]))"
    objective = ScriptObjective((sys.executable, "-c", show, *odd), env={"ODD": "$(id)\n'"})
    folder, _ = jobs.run(objective)
    assert json.loads((folder / jobfolder.STDOUT).read_text()) == [odd, "$(id)\n'"]


def test_values_of_the_environment_are_in_no_file_and_a_job_that_misses_one_says_so(
    jobs: Jobs,
) -> None:
    objective = ScriptObjective(("true",), env={"TOKEN": "hush-hush", "A": "hush-hush"})
    folder = jobs.make(objective)
    assert not [path for path in folder.iterdir() if b"hush" in path.read_bytes()]
    assert "hush" not in repr(objective)
    command = [sys.executable, str(folder / jobfolder.WORKER), str(folder)]
    assert subprocess.run(command, env={**os.environ, "A": ""}, check=False).returncode == 1
    status = ending(folder)
    assert (status.cause, status.message) == (
        Cause.LOAD_ERROR,
        "the job has not got the environment variables TOKEN",
    )


def test_a_python_without_cloudpickle_uses_the_one_that_came_with_the_job(jobs: Jobs) -> None:
    bare = (sys.executable, "-S", "-E")  # no site-packages
    check = [*bare, "-c", "import cloudpickle"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
    factor = 3
    folder = jobs.make(lambda parameters: factor * parameters["x"], {"x": 2})
    jobs.start(folder, python=bare).wait(timeout=60)
    assert ending(folder).state is JobState.SUCCEEDED, (folder / jobfolder.STDERR).read_text()
    assert result(folder) == 6


def test_a_later_driver_sends_its_own_cloudpickle_with_the_job(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.make(print)
    newer = tmp_path / "newer" / "cloudpickle"
    shutil.copytree(Path(cloudpickle.__file__).parent, newer)
    (newer / "added.py").write_text("")
    monkeypatch.setattr(cloudpickle, "__file__", str(newer / "__init__.py"))
    monkeypatch.setattr(cloudpickle, "__version__", "99.0")
    with zipfile.ZipFile(jobs.make(print) / jobfolder.CLOUDPICKLE) as sent:
        assert "cloudpickle/added.py" in sent.namelist()


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_codes(jobs: Jobs, code: int) -> None:
    folder = jobs.make(script(jobs.root, f"exit {code}"))
    assert jobs.start(folder).wait(timeout=60) == code
    status = ending(folder)
    assert status.exit_code == code
    assert status.cause is (Cause.EXIT_CODE if code else None)


def test_commands_that_cannot_run(jobs: Jobs, tmp_path: Path) -> None:
    plain = tmp_path / "plain.sh"
    plain.write_text("#!/bin/sh\n")
    orphan = tmp_path / "orphan.sh"
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    for argv, code, words in [
        (str(tmp_path / "missing"), 127, "command not found"),
        (str(plain), 126, "chmod +x"),
        (str(orphan), 127, "#! line is missing"),
    ]:
        folder, status = jobs.run(ScriptObjective((argv,)))
        assert (status.cause, status.exit_code) == (Cause.EXIT_CODE, code)
        assert words in status.message
        assert words in (folder / jobfolder.STDERR).read_text()
    _, status = jobs.run(script(tmp_path, "true", working_dir=str(tmp_path / "missing")))
    assert "working directory" in status.message


def test_a_script_starts_with_ordinary_signals(jobs: Jobs) -> None:
    folder, _ = jobs.run(script(jobs.root, "grep -E '^Sig(Ign|Blk)' /proc/self/status"))
    masks = [line.split() for line in (folder / jobfolder.STDOUT).read_text().splitlines()]
    ordinary = (1 << 31) - 1  # 32 and 33 are the C library's own
    assert [int(mask, 16) & ordinary for _, mask in masks] == [0, 0]


def test_a_stray_result_in_a_given_working_directory_is_nobodys(jobs: Jobs, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    stray = place / jobfolder.RESULT
    stray.write_text('{"old": 1}')
    folder, status = jobs.run(script(tmp_path, "true", working_dir=str(place)))
    assert status.state is JobState.SUCCEEDED, "an old file is nobody's fault"
    assert not (folder / jobfolder.RESULT).exists()

    write = "printf '{\"new\": 2}' > result.json"
    folder, status = jobs.run(script(tmp_path, write, working_dir=str(place)))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.RESULT_INVALID)
    assert f"new result.json in its working directory {place}" in status.message
    assert "write the metrics to $AXSCHED_RESULT_FILE" in status.message
    assert not (folder / jobfolder.RESULT).exists()
    assert stray.read_text() == '{"new": 2}', "it is left where it is"

    both = f"{write}; printf '{{\"mine\": 3}}' > $AXSCHED_RESULT_FILE"
    folder, status = jobs.run(script(tmp_path, both, working_dir=str(place)))
    assert status.state is JobState.SUCCEEDED
    assert result(folder) == {"mine": 3}

    _, status = jobs.run(script(tmp_path, f"{write}; exit 1", working_dir=str(place)))
    assert status.cause is Cause.EXIT_CODE


def test_two_scripts_with_one_working_directory_are_never_told_each_others_results(
    jobs: Jobs, tmp_path: Path, pipe: Callable[[str], Pipe]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    started, gate = pipe("started"), pipe("gate")
    body = f"""
        printf '{{"loss": %s}}' $AXSCHED_TRIAL_INDEX > result.json
        echo ready > {started.path}
        read line < {gate.path}
    """
    folders = [jobs.make(script(tmp_path, body, working_dir=str(place))) for _ in range(2)]
    supervisors = []
    for folder in folders:  # the second overwrites the first one's file before either ends
        supervisors.append(jobs.start(folder))
        assert started.read() == "ready\n"
    gate.write("\n\n")
    for folder, supervisor in zip(folders, supervisors, strict=True):
        supervisor.wait(timeout=60)
        assert ending(folder).cause is Cause.RESULT_INVALID
        assert not (folder / jobfolder.RESULT).exists()


def test_result_json_in_the_job_s_own_folder_is_the_result(jobs: Jobs) -> None:
    folder, status = jobs.run(script(jobs.root, "printf '{\"a\": 1}' > result.json"))
    assert status.state is JobState.SUCCEEDED
    assert result(folder) == {"a": 1}


@linux
def test_the_supervisor_reads_no_file_of_any_length(jobs: Jobs, tmp_path: Path) -> None:
    """Holes of 20 GB where the protocol has files, and 1 GB of memory."""

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    place = tmp_path / "place"
    place.mkdir()
    body = "for f in result.json $AXSCHED_JOB_DIR/pid.json $AXSCHED_JOB_DIR/claim; do " + (
        "rm -f $f; dd of=$f bs=1 count=0 seek=20G 2>&1; done"
    )
    folder = jobs.make(script(tmp_path, body, working_dir=str(place)))
    jobs.start(folder, preexec_fn=little_memory).wait(timeout=60)
    assert ending(folder).cause is Cause.RESULT_INVALID
    # Put back into the queue by its backend, it meets the claim that the first start has left.
    jobs.start(folder, "--restart", "1", preexec_fn=little_memory).wait(timeout=60)
    assert (folder / "exit.json.0").exists()
    assert ending(folder).cause is Cause.RESULT_INVALID

    damaged = jobs.make(lambda _: 1.0)
    (damaged / jobfolder.JOB).unlink()
    with (damaged / jobfolder.JOB).open("wb") as file:
        file.truncate(20 << 30)
    jobs.start(damaged, preexec_fn=little_memory).wait(timeout=60)
    assert "job.json is missing, not JSON, or longer than" in ending(damaged).message


# ------------------------------------------------------------------ ending a job


@linux
def test_cancel_ends_every_descendant_within_a_second(
    jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started = pipe("started")
    # A stubborn child, a grandchild in a session of its own, and one that has lost its parent.
    body = f"""
        trap '' TERM
        setsid sh -c 'trap "" TERM; echo $$ > {started.path}; while :; do sleep 100; done' &
        (setsid sh -c 'trap "" TERM; echo $$ > {started.path}; sleep 100' &)
        echo $$ > {started.path}
        while :; do sleep 100; done
    """
    folder = jobs.make(script(jobs.root, body))
    supervisor = jobs.start(folder)
    pids: list[int] = []
    while len(pids) < 3:
        pids += map(int, started.read().split())
    begin = time.monotonic()
    jobfolder.request_cancel(folder, "no longer wanted")
    assert gone(*pids, supervisor.pid, within=1.5)
    assert time.monotonic() - begin < 1.2
    supervisor.wait(timeout=5)
    status = ending(folder)
    assert (status.state, status.cause) == (JobState.CANCELLED, Cause.CANCELLED)
    assert status.message == "cancelled: no longer wanted"


@linux
def test_what_a_job_leaves_behind_is_ended_with_it(jobs: Jobs, pipe: Callable[[str], Pipe]) -> None:
    started = pipe("started")
    body = f"""
        setsid sh -c 'echo $$ > {started.path}; exec sleep 100' &
        read pid < {started.path}
        echo $pid
    """
    folder, status = jobs.run(script(jobs.root, body))
    assert status.state is JobState.SUCCEEDED
    assert gone(int((folder / jobfolder.STDOUT).read_text()), within=0.0)


def test_time_limit(jobs: Jobs) -> None:
    _, status = jobs.run(script(jobs.root, "sleep 100"), time_limit=0.3)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.TIME_LIMIT)
    assert "time limit of 0.3 s" in status.message
    assert status.ended_at is not None
    assert status.started_at is not None
    assert 0.3 <= status.ended_at - status.started_at < 2.0


@linux
def test_time_in_which_the_job_was_suspended_is_not_its_own(
    jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started, go = pipe("started"), pipe("go")
    body = f"echo $$ > {started.path}; read x < {go.path}; echo 1 >$AXSCHED_RESULT_FILE"
    folder = jobs.make(script(jobs.root, body), time_limit=4.0)
    supervisor = jobs.start(folder)
    pid = int(started.read())
    for one in (pid, supervisor.pid):
        os.kill(one, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.wait(timeout=4.5)
    for one in (pid, supervisor.pid):
        os.kill(one, signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.wait(timeout=0.5)
    go.write("on\n")
    supervisor.wait(timeout=10)
    assert ending(folder).state is JobState.SUCCEEDED


def test_sigterm_to_the_supervisor_ends_the_job(jobs: Jobs, pipe: Callable[[str], Pipe]) -> None:
    started = pipe("started")
    folder = jobs.make(script(jobs.root, f"echo $$ > {started.path}; sleep 100"))
    supervisor = jobs.start(folder)
    pid = int(started.read())
    supervisor.send_signal(signal.SIGINT)  # ignored
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(timeout=5)
    status = ending(folder)
    assert status.cause is Cause.SIGNAL
    assert "supervisor was told to stop" in status.message
    assert gone(pid, within=1.0)


def explained(folder: Path) -> Path:
    """A job whose backend says itself why it was stopped."""
    job = json.loads((folder / jobfolder.JOB).read_text())
    (folder / jobfolder.JOB).write_text(json.dumps(job | {"backend_explains": True}))
    return folder


@linux
@pytest.mark.parametrize("tell", ["the supervisor", "both", "the child first"])
@pytest.mark.parametrize(
    "body", ["exec sleep 100", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
)
def test_stopped_by_a_backend_that_says_why(
    tell: str, body: str, jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started = pipe("started")
    folder = explained(jobs.make(script(jobs.root, f"echo $$ > {started.path}; {body}")))
    supervisor = jobs.start(folder)
    pid = int(started.read())
    if tell == "the child first":
        os.kill(pid, signal.SIGTERM)
    supervisor.send_signal(signal.SIGTERM)
    if tell == "both":
        os.kill(pid, signal.SIGTERM)
    supervisor.wait(timeout=10)
    # It may be started again, so nothing says that it has ended.
    if tell == "the child first" and "exit 0" in body and jobfolder.read_exit(folder):
        return  # it had ended by itself before anybody told the supervisor
    assert jobfolder.read_exit(folder) is None
    stopped = jobfolder.read_exit(folder, jobfolder.STOPPED)
    assert stopped is not None
    assert stopped.cause is Cause.SIGNAL
    assert jobs.start(folder, "--restart", "1").poll() is None
    started.read()
    assert (folder / "stopped.json.0").exists()
    jobfolder.request_cancel(folder, "enough")


@linux
def test_cancelled_through_a_backend_that_says_why(jobs: Jobs, pipe: Callable[[str], Pipe]) -> None:
    started = pipe("started")
    folder = explained(jobs.make(script(jobs.root, f"echo $$ > {started.path}; exec sleep 100")))
    supervisor = jobs.start(folder)
    pid = int(started.read())
    jobfolder.request_cancel(folder, "enough")
    os.kill(pid, signal.SIGTERM)
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(timeout=10)
    assert ending(folder).state is JobState.CANCELLED


@linux
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGRTMIN + 1])
def test_signals_are_passed_on_to_the_objective(
    number: int, jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started = pipe("started")
    body = (
        "import os, signal\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        f"open({started.path!r}, 'w').write('up')\n"
        f"signal.sigwait([{int(number)}])\n"
        "open(os.environ['AXSCHED_RESULT_FILE'], 'w').write('1')"
    )
    folder = jobs.make(ScriptObjective((sys.executable, "-c", body)))
    supervisor = jobs.start(folder)
    started.read()
    supervisor.send_signal(signal.SIGINT)  # may be a Ctrl-C that is meant for the driver
    supervisor.send_signal(number)
    supervisor.wait(timeout=10)
    assert ending(folder).state is JobState.SUCCEEDED


@linux
def test_a_signal_that_the_objective_does_not_expect_ends_it(
    jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started = pipe("started")
    folder = explained(jobs.make(script(jobs.root, f"echo $$ > {started.path}; exec sleep 100")))
    supervisor = jobs.start(folder)
    started.read()
    supervisor.send_signal(signal.SIGINT)
    supervisor.wait(timeout=10)
    status = ending(folder)
    assert (status.cause, status.signal) == (Cause.SIGNAL, signal.SIGINT)


@linux
@pytest.mark.parametrize("told", ["the supervisor", "all"])
def test_the_objective_has_the_backends_own_grace(
    told: str, jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started, go = pipe("started"), pipe("go")
    count = jobs.root / "count"
    # The shell that the backend started ends at once; what it has started saves its state.
    saver = (
        f"trap 'echo x >>{count}; read x <{go.path}; echo 1 >$AXSCHED_RESULT_FILE; exit 0' TERM; "
        f"echo $$ >{started.path}; while :; do sleep 0.05; done"
    )
    folder = explained(jobs.make(ScriptObjective(("/bin/sh", "-c", saver))))
    job = json.loads((folder / jobfolder.JOB).read_text()) | {"signals_all": told == "all"}
    (folder / jobfolder.JOB).write_text(json.dumps(job))
    supervisor = jobs.start(folder)
    pid = int(started.read())
    supervisor.send_signal(signal.SIGTERM)
    if told == "all":
        os.kill(pid, signal.SIGTERM)
    # Should all be killed now, this is what is left.
    wait_until(lambda: jobfolder.read_exit(folder, jobfolder.STOPPED) is not None, 10, "it is told")
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.wait(timeout=2 * worker.GRACE)
    go.write("on\n")
    supervisor.wait(timeout=10)
    assert ending(folder).state is JobState.SUCCEEDED
    assert jobfolder.read_exit(folder, jobfolder.STOPPED) is None
    assert count.read_text() == "x\n"


@linux
def test_a_job_that_saves_its_state_is_cancelled_all_the_same(
    jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started = pipe("started")
    body = f"trap 'sleep 100' TERM; echo $$ > {started.path}; while :; do sleep 0.05; done"
    folder = explained(jobs.make(script(jobs.root, body)))
    supervisor = jobs.start(folder)
    started.read()
    supervisor.send_signal(signal.SIGTERM)
    wait_until(lambda: jobfolder.read_exit(folder, jobfolder.STOPPED) is not None, 10, "it is told")
    jobfolder.request_cancel(folder, "enough")
    supervisor.wait(timeout=10)
    assert ending(folder).state is JobState.CANCELLED


@linux
@pytest.mark.parametrize("how", ["SIGTERM", "cancel", "time limit"])
def test_a_grace_that_the_runner_sets(jobs: Jobs, pipe: Callable[[str], Pipe], how: str) -> None:
    started = pipe("started")
    body = f"trap 'sleep 1; exit 7' TERM; echo $$ > {started.path}; while :; do sleep 0.05; done"
    folder = jobs.make(script(jobs.root, body))
    job = json.loads((folder / jobfolder.JOB).read_text()) | {"stop_grace": 30.0}
    job |= {"time_limit": 3.0} if how == "time limit" else {}
    (folder / jobfolder.JOB).write_text(json.dumps(job))
    supervisor = jobs.start(folder)
    started.read()
    if how == "SIGTERM":
        supervisor.send_signal(signal.SIGTERM)
    elif how == "cancel":
        jobfolder.request_cancel(folder, "enough")
    supervisor.wait(timeout=20)
    assert ending(folder).exit_code == 7


@linux
def test_finished_before_it_was_stopped(jobs: Jobs, pipe: Callable[[str], Pipe]) -> None:
    started = pipe("started")
    body = f"trap 'echo 1 >$AXSCHED_RESULT_FILE; exit 0' TERM; echo $$ > {started.path}; "
    folder = explained(jobs.make(script(jobs.root, body + "while :; do sleep 0.1; done")))
    supervisor = jobs.start(folder)
    pid = int(started.read())
    os.kill(pid, signal.SIGTERM)
    supervisor.wait(timeout=10)
    assert ending(folder).state is JobState.SUCCEEDED


@linux
def test_the_child_dies_with_its_supervisor(jobs: Jobs, pipe: Callable[[str], Pipe]) -> None:
    started = pipe("started")
    folder = jobs.make(script(jobs.root, f"echo $$ > {started.path}; exec sleep 100"))
    supervisor = jobs.start(folder)
    pid = int(started.read())
    assert worker.owner_is_alive(str(folder)) is True
    supervisor.kill()
    supervisor.wait(timeout=5)
    assert gone(pid, within=2.0)
    assert jobfolder.read_exit(folder) is None
    assert worker.owner_is_alive(str(folder)) is False
    assert worker.wait_for_owner(str(folder))


# ------------------------------------------------------------------ the claim


def test_a_claimed_job_is_not_run_and_nothing_is_written(jobs: Jobs) -> None:
    folder = jobs.make(lambda _: 1.0)
    assert jobfolder.try_claim(folder, "the test")
    before = sorted(os.listdir(folder))
    assert jobs.start(folder).wait(timeout=60) == worker.NOT_MINE
    assert sorted(os.listdir(folder)) == before
    assert worker.owner_is_alive(str(folder)) is False


def test_many_starts_run_a_job_once(jobs: Jobs) -> None:
    counter = str(jobs.root / "counter")

    def objective(_: Any) -> float:
        with open(counter, "a") as file:
            file.write("x")
        return 1.0

    folder = jobs.make(objective)
    codes = [process.wait(timeout=60) for process in [jobs.start(folder) for _ in range(5)]]
    assert sorted(codes) == [0] + [worker.NOT_MINE] * 4
    assert Path(counter).read_text() == "x"


@linux
@pytest.mark.parametrize("code", [worker.NOT_MINE, worker.OWNER_GONE])
def test_a_second_start_stands_in_for_the_first(
    code: int, jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started, go = pipe("started"), pipe("go")
    body = f"echo $$ > {started.path}; read x < {go.path}; echo 1 > $AXSCHED_RESULT_FILE"
    folder = jobs.make(script(jobs.root, body))
    first = jobs.start(folder)
    started.read()
    second = jobs.start(folder, "--stay")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=0.5)
    if code == worker.OWNER_GONE:
        first.kill()
    else:
        go.write("x\n")
    assert second.wait(timeout=20) == code
    first.wait(timeout=20)
    taken_back = jobs.make(lambda _: 1.0)
    assert jobfolder.try_claim(taken_back, "the test")
    assert jobs.start(taken_back, "--stay").wait(timeout=20) == worker.NOT_MINE


def test_a_cancel_file_that_was_there_first(jobs: Jobs) -> None:
    folder = jobs.make(lambda _: 1.0)
    jobfolder.request_cancel(folder, "")
    jobs.start(folder).wait(timeout=60)
    assert ending(folder).state is JobState.CANCELLED
    assert not (folder / jobfolder.STDOUT).exists()


def test_a_requeue_sets_the_earlier_outputs_aside(jobs: Jobs) -> None:
    def objective(_: Any) -> float:
        print("attempt")
        raise ValueError

    folder = jobs.make(objective)
    for restart in (0, 1, 2):
        assert jobs.start(folder, "--restart", str(restart)).wait(timeout=60) == 1
        assert jobs.start(folder, "--restart", str(restart)).wait(timeout=60) == worker.NOT_MINE
    names = set(os.listdir(folder))
    assert {"claim", "claim.1", "claim.2"} < names
    assert {"exit.json", "exit.json.0", "exit.json.1"} < names
    assert {"stdout.log", "stdout.log.0", "stdout.log.1"} < names


def test_a_requeued_job_respects_and_keeps_off_the_driver(jobs: Jobs) -> None:
    taken_back = jobs.make(lambda _: 1.0)
    assert jobfolder.try_claim(taken_back, "cancelled by the driver")
    assert jobs.start(taken_back, "--restart", "1").wait(timeout=60) == worker.NOT_MINE
    # The first start never came to its claim; the driver must not win it afterwards.
    requeued = jobs.make(lambda _: 1.0)
    assert jobs.start(requeued, "--restart", "1").wait(timeout=60) == 0
    assert not jobfolder.try_claim(requeued, "the driver")


# ------------------------------------------------------------------ the ways to start


@pytest.mark.parametrize("start", [worker.start_detached, worker.start_spawned])
def test_a_detached_job_outlives_its_starter_and_tells_its_end(
    jobs: Jobs, pipe: Callable[[str], Pipe], start: Callable[[str], int]
) -> None:
    started, gate = pipe("started"), pipe("gate")
    body = f"echo $$ > {started.path}; read line < {gate.path}"
    folder = jobs.make(script(jobs.root, body))
    descriptor = start(str(folder))
    pid = int(started.read())
    supervisor = json.loads((folder / jobfolder.PID).read_text())["pid"]
    assert os.getsid(supervisor) == supervisor
    assert os.getsid(pid) == pid
    assert psutil.Process(supervisor).ppid() != os.getpid()
    assert not select.select([descriptor], [], [], 0.0)[0]
    gate.write("go\n")
    worker.wait_for_end(descriptor)
    assert ending(folder).state is JobState.SUCCEEDED


def test_jobs_forked_from_one_process_draw_different_random_numbers(jobs: Jobs) -> None:
    import numpy.random

    def draw(_: Any) -> dict[str, Any]:
        return {"python": random.random(), "numpy": numpy.random.random_sample()}

    folders = [jobs.make(draw) for _ in range(2)]
    for folder in folders:
        worker.wait_for_end(worker.start_detached(str(folder)))
    first, second = map(result, folders)
    assert first["python"] != second["python"]
    assert first["numpy"] != second["numpy"]


@linux
def test_a_detached_supervisor_holds_nothing_of_its_starter(
    jobs: Jobs, pipe: Callable[[str], Pipe]
) -> None:
    started, gate = pipe("started"), pipe("gate")
    folder = jobs.make(script(jobs.root, f"echo $$ > {started.path}; read x < {gate.path}"))
    descriptor = worker.start_detached(str(folder))
    child = int(started.read())
    supervisor = json.loads((folder / jobfolder.PID).read_text())["pid"]
    targets = {
        n: os.readlink(f"/proc/{supervisor}/fd/{n}") for n in os.listdir(f"/proc/{supervisor}/fd")
    }
    assert {targets[n] for n in "012"} == {os.devnull}
    others = {t for n, t in targets.items() if n not in "012"}
    assert {t for t in others if not t.startswith("pipe:")} == {str(folder)}
    assert len(targets) == 6, targets  # and the starter's pipe, and the child's report
    held = [os.readlink(f"/proc/{child}/fd/{n}") for n in os.listdir(f"/proc/{child}/fd")]
    assert not [target for target in held if target.startswith("pipe:")]
    gate.write("\n")
    worker.wait_for_end(descriptor)


def test_run_here_writes_the_same_files(jobs: Jobs) -> None:
    folder = jobs.make(lambda p: p["x"], {"x": 2})
    assert worker.run_here(str(folder))
    assert ending(folder).state is JobState.SUCCEEDED
    assert result(folder) == 2
    assert not worker.run_here(str(folder)), "it was claimed"

    def objective(_: Any) -> None:
        raise KeyError("missing")

    failed = jobs.make(objective)
    assert worker.run_here(str(failed))
    assert ending(failed).cause is Cause.EXCEPTION
    assert "KeyError: 'missing'" in (failed / jobfolder.STDERR).read_text()


def test_a_container_s_job_starts_fresh_processes_that_find_helpers_of_main(jobs: Jobs) -> None:
    def helper(x: float) -> float:
        return -x

    helper.__module__, helper.__qualname__ = "__main__", "helper"

    def objective(_: Any) -> float:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(helper, 3).result()

    folder = jobs.make(objective)
    for name in (jobfolder.WORKER, jobfolder.FUNCTION, jobfolder.CLOUDPICKLE):
        os.rename(folder / name, jobs.root / name)
    for name in (jobfolder.FUNCTION, jobfolder.CLOUDPICKLE):
        (folder / name).symlink_to(f"../{name}")
    subprocess.run([sys.executable, jobs.root / jobfolder.WORKER, folder], timeout=60)
    assert ending(folder).state is JobState.SUCCEEDED, ending(folder)
    assert result(folder) == -3


@pytest.mark.parametrize("kind", ["function", "script"])
def test_a_supervisor_without_standard_streams(jobs: Jobs, kind: str) -> None:
    def objective(_: Any) -> float:
        print("out")
        print("err", file=sys.stderr)
        return 1.0

    folder = jobs.make(
        objective if kind == "function" else script(jobs.root, "echo out; echo err >&2")
    )
    command = [sys.executable, str(folder / jobfolder.WORKER), str(folder)]
    subprocess.run(["/bin/sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], check=True, timeout=60)
    assert ending(folder).state is JobState.SUCCEEDED
    assert (folder / jobfolder.STDOUT).read_text() == "out\n"
    assert (folder / jobfolder.STDERR).read_text() == "err\n"


@linux
def test_trouble_of_the_supervisor_is_told(jobs: Jobs) -> None:
    folder = jobs.make(lambda _: 1.0)
    (folder / jobfolder.JOB).write_text("not JSON")
    assert jobs.start(folder).wait(timeout=60) == 1
    status = ending(folder)
    assert status.cause is Cause.NODE_FAIL
    assert "supervisor failed" in status.message
    assert "Traceback" in (folder / jobfolder.STDERR).read_text()


def test_ownership_is_told_by_more_than_a_process_id(jobs: Jobs) -> None:
    folder = jobs.make(lambda _: 1.0)
    assert worker.owner_is_alive(str(folder)) is False
    (folder / jobfolder.CLAIM).touch()
    assert worker.owner_is_alive(str(folder)) is True, "it is being filled in"
    long_ago = time.time() - worker.CLAIM_GRACE - 1
    os.utime(folder / jobfolder.CLAIM, (long_ago, long_ago))
    assert worker.owner_is_alive(str(folder)) is False
    mine = worker.identity()
    for change, expected in [
        ({}, True),
        ({"start_time": 1}, False),
        ({"boot_id": "another"}, False),
        ({"host": "another"}, None),
    ]:
        (folder / jobfolder.PID).write_text(json.dumps(mine | change))
        assert worker.owner_is_alive(str(folder)) is expected


# ------------------------------------------------------------------ intermediate results


def reported(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / jobfolder.PROGRESS).read_text().splitlines()]


def test_a_function_reports_while_it_runs(jobs: Jobs) -> None:
    def objective(_: Any) -> float:
        import numpy as np

        from axsched_core import report

        report(step=0, loss=np.float32(0.5), pair=(1, 0.1))
        report(1, loss={"mean": 2, "sem": None}, text="x" * 200, odd=object())
        return 0.25

    folder, status = jobs.run(objective)
    assert status.state is JobState.SUCCEEDED
    first, second = reported(folder)
    assert first == {"step": 0, "loss": 0.5, "pair": [1, 0.1]}
    assert second["step"] == 1
    assert second["loss"] == {"mean": 2, "sem": None}
    assert second["text"] == "x" * 100 + "..."
    assert second["odd"].startswith("<object")


def test_report_does_nothing_outside_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AXSCHED_PROGRESS_FILE", raising=False)
    worker.report(step=1, loss=2.0)
    assert list(tmp_path.iterdir()) == []


def test_report_for_a_python_without_axsched_core(jobs: Jobs, tmp_path: Path) -> None:
    def objective(_: Any) -> float:
        from axsched_core import report

        report(step=3, loss=0.5)
        return 0.25

    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    folder = jobs.make(objective)
    env = {**os.environ, "PYTHONPATH": str(packages)}
    jobs.start(folder, python=(sys.executable, "-S"), env=env).wait(timeout=60)
    assert ending(folder).state is JobState.SUCCEEDED, ending(folder)
    assert reported(folder) == [{"step": 3, "loss": 0.5}]


def test_a_report_that_cannot_be_written_does_not_end_the_job(jobs: Jobs) -> None:
    def objective(_: Any) -> float:
        from axsched_core import report

        os.mkdir(os.environ["AXSCHED_PROGRESS_FILE"])
        report(step=3, loss=0.5)
        return 0.25

    folder, status = jobs.run(objective)
    assert status.state is JobState.SUCCEEDED
    assert "intermediate result cannot be written" in (folder / jobfolder.STDERR).read_text()


def test_each_thread_reports_for_its_own_job(jobs: Jobs) -> None:
    threads = concurrent.futures.ThreadPoolExecutor(2)

    def objective(parameters: dict[str, Any]) -> float:
        from axsched_core import report

        for step in range(3):
            report(step=step, loss=parameters["x"])
        return 0.25

    folders = [jobs.make(objective, {"x": x}) for x in (1, 2)]
    with threads:
        list(threads.map(worker.run_here, map(str, folders)))
    for x, folder in zip((1, 2), folders, strict=True):
        assert reported(folder) == [{"step": step, "loss": x} for step in range(3)]
    worker.report(step=9, loss=9)
    assert len(reported(folders[0])) == 3
