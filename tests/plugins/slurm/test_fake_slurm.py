"""Faults that a real Slurm cannot be told to have, played by scripts on PATH."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from axsched_slurm import SlurmOptions, SlurmRunner, commands
from axsched_slurm.commands import CommandFailed, own_environment
from axsched_slurm.diagnose import checks
from axsched_slurm.query import SQUEUE
from axsched_slurm.submit import Kind, Refusal, refusal

from axsched_core import jobfolder
from axsched_core.errors import BackendUnavailable, RunnerError
from axsched_core.jobs import (
    CancelOutcome,
    Cause,
    JobHandle,
    JobState,
    JobStatus,
    NotSubmitted,
)
from axsched_core.testing.bench import Bench
from support.slurm_commands import Commands
from support.waiting import wait_until

CONFIG = "printf 'AccountingStorageType = %s\\nMaxArraySize = 1001\\n' accounting_storage/{}"


class FakeSlurm:
    """Slurm, as far as its commands show it."""

    def __init__(self, folder: Path) -> None:
        self.commands = Commands(folder)
        self.jobs, self._past = folder / "squeue", folder / "sacct"
        self.jobs.touch()
        self._past.touch()
        self.commands.script("squeue", f"cat {self.jobs}")
        self.commands.script("sacct", f"cat {self._past}")
        self.commands.script("scancel", "exit 0")
        self.commands.script("scontrol", CONFIG.format("slurmdbd"))
        self.commands.script("sbatch", "echo 7")

    def shows(self, *rows: tuple[str, str, str, str, int]) -> None:
        """What squeue says: (id, name, state, reason, wait status) of each job."""
        lines = [
            f"{job_id}|{state}|{reason}|{status}|0|1700000000|NONE|n1|{name}|\n"
            for job_id, name, state, reason, status in rows
        ]
        self.jobs.write_text("".join(lines))

    def remembers(self, *rows: tuple[str, str, str, str]) -> None:
        """What sacct says: (id, name, state, exit code)."""
        lines = [f"{i}|{state}|{code}|1|2|n1|{name}\n" for i, name, state, code in rows]
        self._past.write_text("".join(lines))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path)
    monkeypatch.setenv("PATH", f"{fake.commands.folder}:{os.environ['PATH']}")
    return fake


@pytest.fixture
def make_bench(slurm: FakeSlurm, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        given = {"patience": 0.5, "command_timeout": 1.0, **options}
        made.append(Bench(SlurmRunner(**given), tmp_path / "runs", patience=10))
        return made[-1]

    yield make
    for bench in made:
        bench.session.close(wait=False)


def begun(bench: Bench, handle: JobHandle) -> None:
    """As if the job's worker had begun."""
    (bench.folder(handle) / jobfolder.CLAIM).write_text('{"pid": 1}')


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# ---- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["squeue", "scontrol"])
def test_a_command_that_hangs_is_an_outage(
    name: str, slurm: FakeSlurm, make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make_bench()
    handles = [bench.start({})] if name == "squeue" else []
    # It ignores SIGTERM, and so does its child, which keeps its stdout open.
    slurm.commands.script(name, f"trap '' TERM; sleep 1000 & echo $! >{tmp_path}/pid; sleep 1000")
    with pytest.raises(BackendUnavailable, match="has not answered in 1 s"):
        bench.session.poll(handles)
        bench.session.submit([bench.request({})])  # asks the cluster about itself first
    assert not any(jobfolder.never_ran(bench.folder(handle)) for handle in handles)
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: gone(child), 10, "its child has ended too")


@pytest.mark.parametrize(
    "body",
    [
        "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1",
        "echo 'no words that anybody knows' >&2; exit 3",
        "exit 1",
        "kill -9 $$",
    ],
)
def test_a_query_that_fails_is_never_an_answer(
    body: str, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.01)
    handle = bench.start({})
    slurm.commands.script("squeue", body)
    before = slurm.commands.calls("squeue")
    while slurm.commands.calls("squeue") < before + 3:
        with pytest.raises(BackendUnavailable):
            bench.session.poll([handle])
    with pytest.raises(BackendUnavailable):
        bench.session.reattach([bench.request({})])


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunnerError, match="sbatch, squeue, scancel, scontrol cannot be found"):
        Bench(SlurmRunner(), tmp_path, 1)


def test_what_is_slurms_own_is_kept_from_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SBATCH_QOS", "SQUEUE_USERS", "SACCT_FORMAT", "PMI_RANK"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    found = own_environment()
    assert found["SLURM_CONF"] == "/etc/slurm.conf"
    assert not [name for name in found if name.startswith(("SB", "SQ", "SA", "SLURM_J", "PMI"))]


FAILED = "Batch job submission failed: "


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([f"{FAILED}Invalid partition name specified"], Kind.FINAL),
        ([f"{FAILED}Requested node configuration is not available"], Kind.FINAL),
        ([f"{FAILED}Requested reservation is invalid"], Kind.FINAL),
        ([f"{FAILED}Requested reservation not usable now"], Kind.FOR_NOW),
        (["AssocMaxWallDurationPerJobLimit", f"{FAILED}Job violates accounting/QOS policy (job "
          "submit limit, user's size and/or time limits)"], Kind.FOR_NOW),
        (["QOSMaxSubmitJobPerUserLimit", f"{FAILED}Job violates accounting/QOS policy (job "
          "submit limit, user's size and/or time limits)"], Kind.FULL),
        ([f"{FAILED}Required partition not available (inactive or drain)"], Kind.FOR_NOW),
        ([f"{FAILED}Resource temporarily unavailable"], Kind.FULL),
        (["something that nobody knows"], Kind.FOR_NOW),
        (["unrecognized option '--x'", 'Try "sbatch --help" for more information'], Kind.FINAL),
        # A site's own words, of its job_submit plugin, stand before Slurm's.
        (["project 7 is not responding, unable to contact its owner", f"{FAILED}Unspecified error"],
         Kind.FINAL),
        (["see MaxJobCount and SubmitJobLimit on our page; job queue full",
          f"{FAILED}Unspecified error"], Kind.FINAL),
    ],
)  # fmt: skip
def test_refusals(lines: list[str], kind: Kind) -> None:
    found = refusal(CommandFailed(lines, 1))
    assert found == Refusal(f"sbatch: {'; '.join(lines)}", kind)
    assert found.error().transient == (kind in (Kind.FULL, Kind.FOR_NOW))


@pytest.mark.parametrize(
    "lines",
    [
        [f"{FAILED}Unable to contact slurm controller (connect failure)"],
        ["a word of the site's", f"{FAILED}Socket timed out on send/recv operation"],
        ["Could not establish a configuration source"],
        [],
    ],
)
def test_refusals_that_are_outages(lines: list[str]) -> None:
    with pytest.raises(BackendUnavailable):
        refusal(CommandFailed(lines, 1))


def test_sbatch_answers_nonsense(slurm: FakeSlurm, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    slurm.commands.script("sbatch", "echo Welcome to the cluster")
    request = bench.request({})
    with pytest.raises(BackendUnavailable, match="Welcome to the cluster"):
        bench.session.submit([request])
    # The job is there after all.
    slurm.shows(("12", request.key, "PENDING", "Priority", 0))
    (handle,) = bench.submit(request)
    assert handle.backend_id == "12"
    assert slurm.commands.calls("sbatch") == 1


def test_arrays_that_the_cluster_refuses_are_made_smaller(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    # The administrator has made MaxArraySize smaller, or SchedulerParameters has max_array_tasks.
    bench = make_bench()
    slurm.commands.script(
        "sbatch",
        'case "$*" in *--array=0-[1-9]*) echo \'sbatch: error: Batch job submission failed: '
        "Invalid job array specification' >&2; exit 1;; esac; echo 7",
    )
    handles = bench.submit(*[bench.request({}) for _ in range(3)])
    assert [handle.backend_id for handle in handles] == ["7", "7", "7"]


def test_an_sbatch_that_would_sleep_is_ended_and_may_have_submitted_all_the_same(
    slurm: FakeSlurm, make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make_bench(command_timeout=60.0)
    words = "Slurm job queue full, sleeping and retrying"
    slurm.commands.script(
        "sbatch", f"echo $$ >{tmp_path}/pid; echo 'sbatch: error: {words}' >&2; sleep 1000"
    )
    (handle,) = bench.submit(bench.request({}))
    status = bench.session.poll([handle])[handle.key]
    assert (status.state, status.backend_state) == (JobState.QUEUED, "HELD HERE")
    assert words in status.message
    assert gone(int((tmp_path / "pid").read_text()))
    slurm.shows(("12", handle.key, "RUNNING", "None", 0))
    before = slurm.commands.calls("sbatch")
    bench.running(handle)
    assert slurm.commands.calls("sbatch") == before


def test_after_a_command_that_hangs_the_others_have_less_time(
    slurm: FakeSlurm, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "QUICK", 0.1)
    bench = make_bench(command_timeout=5.0)
    handle = bench.start({})
    for name in ("squeue", "scancel"):
        slurm.commands.script(name, "sleep 1000")
    with pytest.raises(BackendUnavailable, match="squeue has not answered in 5 s"):
        bench.session.poll([handle])
    with pytest.raises(BackendUnavailable, match=r"squeue has not answered in 0\.5 s"):
        bench.session.cancel([handle], "Ctrl-C")
    slurm.shows(("7", handle.key, "RUNNING", "None", 0))
    slurm.commands.script("squeue", f"cat {slurm.jobs}")
    with pytest.raises(BackendUnavailable, match="scancel has not answered in 5 s"):
        bench.session.cancel([handle], "Ctrl-C")


@pytest.mark.parametrize("body", ["sleep 1000", "echo no >&2; exit 1"])
def test_a_first_contact_that_fails_names_doctor(
    body: str, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    slurm.commands.script("scontrol", body)
    with pytest.raises(BackendUnavailable, match="try `axsched doctor slurm`"):
        bench.session.submit([bench.request({})])
    slurm.commands.script("scontrol", CONFIG.format("none"))
    handle = bench.start({})
    slurm.commands.script("squeue", body)
    with pytest.raises(BackendUnavailable) as outage:
        bench.session.poll([handle])
    assert "doctor" not in str(outage.value)


def test_a_configuration_that_is_not_there(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "nowhere"))
    with pytest.raises(RunnerError, match="SLURM_CONF=.*nowhere.* leads to no file"):
        Bench(SlurmRunner(), tmp_path, 1)
    (check,) = [one for one in checks(SlurmOptions()) if not one.ok]
    assert "leads to no file" in check.message


@pytest.mark.parametrize("name", ["sbatch", "squeue"])
def test_a_command_that_waits_for_slurms_configuration_is_an_outage_at_once(
    name: str, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(command_timeout=60.0)
    words = "s_p_parse_file: cannot stat file /x: No such file, retrying in 1sec up to 60sec"
    slurm.commands.script(name, f"echo '{name}: error: {words}' >&2; sleep 1000")
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="cannot stat file /x"):
        bench.session.poll([bench.start({})])
    assert time.monotonic() - began < 30


# ---- what is believed ------------------------------------------------------------------------


def test_an_id_under_another_name_is_not_our_job(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    handle = bench.start({})
    assert handle.backend_id == "7"
    slurm.shows(("7", "somebody-else", "COMPLETED", "None", 0))
    slurm.remembers(("7", "somebody-else", "FAILED", "1:0"))
    status = bench.status(handle)
    assert status.state is JobState.LOST
    bench.session.cancel([handle], "not somebody else's")
    assert slurm.commands.calls("scancel 7") == 0


@pytest.mark.parametrize(
    ("file", "listed", "state"),
    [
        (None, True, JobState.CANCELLED),
        (None, False, JobState.LOST),
        ("slurm.log", True, JobState.LOST),
        (jobfolder.CLAIM, True, JobState.LOST),
    ],
)
def test_an_element_that_is_missing_while_the_rest_is_listed(
    file: str | None,
    listed: bool,
    state: JobState,
    slurm: FakeSlurm,
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    handles = bench.submit(bench.request({}), bench.request({}))
    if file is not None:
        (bench.folder(handles[1]) / file).write_text('{"pid": 1}')
    name = f"{bench.run_id}-b1" if listed else "another"
    slurm.shows(("7_0", name, "RUNNING", "None", 0))
    assert bench.status(handles[1]).state is state


def test_a_site_that_puts_words_around_the_jobs_names(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.2)
    alone = bench.start({})
    handles = bench.submit(bench.request({}), bench.request({}))
    array = f"lab1.{bench.run_id}-b1 (batch)"
    slurm.shows(
        ("6", f"lab1.{alone.key}_x", "RUNNING", "None", 0),
        ("7_0", array, "RUNNING", "None", 0),
        ("7_1", array, "PENDING", "Priority", 0),
    )
    bench.running(alone, handles[0])
    assert bench.session.poll(handles)[handles[1].key].state is JobState.QUEUED
    found = bench.session.reattach([bench.request({})])
    assert list(map(type, found.values())) == [NotSubmitted]
    assert len(SlurmRunner().axsched_find_leftovers(bench.run_id)) == 3
    slurm.shows()
    slurm.remembers(("7_1", array, "OUT_OF_MEMORY", "0:125"))
    assert bench.status(handles[1]).cause is Cause.OUT_OF_MEMORY


def test_being_missing_counts_only_while_slurm_answers(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.6)
    handle = bench.start({})
    begun(bench, handle)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:  # three times the patience, but with outages between
        answered = slurm.commands.calls("squeue")
        while slurm.commands.calls("squeue") == answered:
            assert not {s.state for s in bench.session.poll([handle]).values()} & {JobState.LOST}
        slurm.commands.script("squeue", "exit 1")
        with pytest.raises(BackendUnavailable):
            while True:
                bench.session.poll([handle])
        slurm.commands.script("squeue", "exit 0")
        asked = slurm.commands.calls("squeue")
        while slurm.commands.calls("squeue") == asked:
            try:
                bench.session.poll([handle])
            except BackendUnavailable:
                continue  # it is too soon to ask again
    assert bench.status(handle).state is JobState.LOST


def test_accounting_that_is_behind_ends_no_job(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    handle = bench.start({})
    slurm.remembers(("7", handle.key, "RUNNING", "0:0"))
    assert all(not s.state.ended for s in bench.session.poll([handle]).values())
    slurm.remembers(("7", handle.key, "OUT_OF_MEMORY", "0:125"), ("7.batch", "batch", "x", "0:0"))
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.OUT_OF_MEMORY)


def test_a_step_that_ran_out_of_memory(slurm: FakeSlurm, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    handle = bench.start({})
    begun(bench, handle)
    slurm.remembers(("7", handle.key, "FAILED", "1:0"), ("7.0", "srun", "OUT_OF_MEMORY", "0:125"))
    assert bench.status(handle).cause is Cause.OUT_OF_MEMORY


def test_completed_without_an_exit_file_is_not_done(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=1.0)
    handle, late = bench.start({}), bench.start({})
    for one in (handle, late):
        begun(bench, one)
    slurm.shows(("7", handle.key, "COMPLETED", "None", 0), ("8", late.key, "COMPLETED", "None", 0))
    assert bench.session.poll([handle, late]) == {}  # the file system may be slow
    (bench.folder(late) / jobfolder.EXIT).write_text(json.dumps({"exit_code": 0}))
    statuses = bench.wait([handle, late])
    assert statuses[late.key].state is JobState.SUCCEEDED
    assert statuses[handle.key].state is JobState.FAILED
    assert "its exit.json has not shown here" in statuses[handle.key].message


def test_the_jobs_own_exit_file_wins(slurm: FakeSlurm, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    handle = bench.start({})
    (bench.folder(handle) / jobfolder.EXIT).write_text(json.dumps({"exit_code": 0}))
    slurm.shows(("7", handle.key, "NODE_FAIL", "NodeDown", 0))
    assert bench.status(handle).state is JobState.SUCCEEDED
    slurm.commands.script("squeue", "exit 1")
    assert bench.status(handle).state is JobState.SUCCEEDED  # nobody needs to be asked


def test_another_start_of_the_job_has_its_claim(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    # Slurm has taken a submission whose answer was lost, and the one after it too.
    bench = make_bench()
    handle = bench.start({})
    begun(bench, handle)
    slurm.shows(
        ("7", handle.key, "FAILED", "NonZeroExitCode", 75 << 8),
        ("5", handle.key, "RUNNING", "None", 0),
    )
    assert bench.session.poll([handle])[handle.key].state is JobState.RUNNING


@pytest.mark.parametrize(("limit", "state"), [(600, JobState.RUNNING), (0.01, JobState.LOST)])
def test_a_start_that_slurm_has_forgotten_is_believed_for_as_long_as_it_may_run(
    limit: float, state: JobState, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.2)
    handle = bench.start({}, time_limit=limit)
    begun(bench, handle)
    slurm.shows(("7", handle.key, "FAILED", "NonZeroExitCode", 75 << 8))

    def right(status: JobStatus) -> bool:
        return status.state is state

    bench.wait([handle], right)
    for _ in range(3):
        assert right(bench.session.poll([handle])[handle.key])


@pytest.mark.parametrize(("wait_status", "cause"), [(1 << 8, Cause.NODE_FAIL), (9, Cause.SIGNAL)])
def test_failed_without_an_exit_file(
    wait_status: int, cause: Cause, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.2)
    handle = bench.start({})
    begun(bench, handle)
    (bench.folder(handle) / "slurm.log").write_text("noise\nno space left\n\n")
    slurm.shows(("7", handle.key, "FAILED", "None", wait_status))
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, cause)
    assert status.message.endswith("; no space left")


@pytest.mark.parametrize("stopped", [True, False])
def test_stopped_and_slurm_does_not_say_why(
    stopped: bool, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.2)
    handle = bench.start({})
    begun(bench, handle)
    if stopped:
        (bench.folder(handle) / jobfolder.STOPPED).write_text('{"cause": "SIGNAL"}')
    slurm.shows(("7", handle.key, "FAILED", "NonZeroExitCode", (1 if stopped else 76) << 8))
    status = bench.status(handle)
    assert status.state is JobState.LOST
    assert ("told to stop" in status.message) == stopped


@pytest.mark.parametrize(
    ("config", "ran", "forgotten", "state", "cause"),
    [
        ("MinJobAge = 2 sec", 301, 10, JobState.FAILED, Cause.TIME_LIMIT),
        ("MinJobAge = 2 sec", 100, 10, JobState.CANCELLED, Cause.CANCELLED),
        ("MinJobAge = 2 sec\\nPreemptType = preempt/qos", 100, 10, JobState.FAILED,
         Cause.PREEMPTED),
        # Slurm would still list it: its controller has lost it.
        ("MinJobAge = 300 sec", 301, 10, JobState.LOST, Cause.LOST),
        ("MinJobAge = 0 sec", 301, 9999, JobState.LOST, Cause.LOST),
    ],
)  # fmt: skip
def test_stopped_and_forgotten_between_two_looks(
    config: str,
    ran: float,
    forgotten: float,
    state: JobState,
    cause: Cause,
    slurm: FakeSlurm,
    make_bench: Callable[..., Bench],
) -> None:
    slurm.commands.script("scontrol", f"printf '{config}\\n'")
    bench = make_bench(time_limit="0:05:00")
    handle = bench.start({})
    begun(bench, handle)
    path = bench.folder(handle) / jobfolder.STOPPED
    ended = time.time() - forgotten
    stopped = {"signal": 15, "cause": "SIGNAL", "start": ended - ran, "end": ended}
    path.write_text(json.dumps(stopped))
    os.utime(path, (ended, ended))
    status = bench.status(handle)
    assert (status.state, status.cause) == (state, cause)


def test_what_slurm_would_start_again_although_it_has_ended_is_cleared_away(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    done, other = bench.start({}), bench.start({})
    (bench.folder(done) / jobfolder.EXIT).write_text(json.dumps({"exit_code": 0}))
    line = "7|PENDING|launch failed requeued held|0|1|N/A|N/A||{}|"
    slurm.commands.script("squeue", f"echo '{line.format(done.key)}'")
    while not slurm.commands.calls("scancel 7"):
        bench.session.poll([done, other])
    for _ in range(3):
        bench.session.poll([done, other])
    assert slurm.commands.calls("scancel") == 1


def test_words_that_mean_nothing_say_nothing(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=0.01)
    handle = bench.start({})
    slurm.shows(("7", handle.key, "TELEPORTED", "None", 0))
    for _ in range(3):
        assert bench.session.poll([handle]) == {}


def test_awkward_lines_of_squeue(slurm: FakeSlurm, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    handle = bench.start({})
    slurm.shows(
        ("5", "we|ird\nname", "RUNNING", "None", 0),
        ("9+0", "heterogeneous", "RUNNING", "None", 0),
        ("7", handle.key, "RUNNING", "None", 0),
    )
    assert bench.session.poll([handle])[handle.key].state is JobState.RUNNING
    assert "--states=all" in SQUEUE


def test_polls_that_come_too_soon_ask_nobody(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    bench.session._runner._watch._interval = 100.0
    handles = bench.submit(*[bench.request({}) for _ in range(3)])
    slurm.shows(*[(f"7_{n}", f"{bench.run_id}-b1", "RUNNING", "None", 0) for n in range(3)])
    for _ in range(5):
        statuses = bench.session.poll(handles)
        assert {status.state for status in statuses.values()} == {JobState.RUNNING}
    assert slurm.commands.calls("squeue") == 1
    slurm.commands.script("squeue", "exit 1")
    # Cancelling asks at once; after a failure polls are refused without asking.
    with pytest.raises(BackendUnavailable):
        bench.session.cancel(handles[:1], "now")
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            bench.session.poll(handles)
    assert slurm.commands.calls("squeue") == 2


# ---- cancelling ------------------------------------------------------------------------------


def test_ids_as_scancel_takes_them(slurm: FakeSlurm, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    handles = bench.submit(*[bench.request({}) for _ in range(4)])
    name = f"{bench.run_id}-b1"
    slurm.shows(*[(f"7_{n}", name, "RUNNING", "None", 0) for n in range(4)])
    outcomes = bench.session.cancel(handles[1:3], "two of them")
    assert set(outcomes.values()) == {CancelOutcome.REQUESTED}
    assert slurm.commands.calls("scancel 7_[1,2]") == 1
    bench.session.cancel(handles, "all of them")
    assert slurm.commands.calls("scancel 7") == 2
    assert {s.state for s in bench.session.poll(handles).values()} == {JobState.CANCELLED}


def test_a_cancelled_job_that_vanishes_is_cancelled(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=600.0)
    handle = bench.start({})
    begun(bench, handle)  # and was put back into the queue, where it waits
    slurm.shows(("7", handle.key, "PENDING", "BeginTime", 0))
    bench.session.cancel([handle], "enough")
    slurm.shows()
    assert bench.status(handle).state is JobState.CANCELLED


# ---- why a job waits ---


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", ""),
        ("JobHeldAdmin", "scontrol release 7"),
        ("PartitionTimeLimit", "lower time_limit"),
        ("QOSMaxCpuPerJobLimit", "ask for less"),
        ("AssocGrpCpuLimit", "wait until other jobs end"),
        ("AccountNotAllowed", "set another account"),
    ],
)
def test_why_a_job_waits(
    reason: str, words: str, slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    handle = bench.start({})
    slurm.shows(("7", handle.key, "PENDING", reason, 0))
    status = bench.session.poll([handle])[handle.key]
    assert status.state is JobState.QUEUED
    assert status.message.startswith(reason)
    assert words in (status.remedy or status.message)
    assert bool(status.remedy) is (words != "" and not words.startswith("wait"))


# ---- another driver --------------------------------------------------------------------------


def test_a_submission_on_its_way_never_runs_after_it_was_given_up(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    request = bench.request({})
    slurm.commands.script("sbatch", "sleep 1000")
    with pytest.raises(BackendUnavailable):
        bench.session.submit([request])
    assert bench.session.reattach([request]) == {request.key: NotSubmitted()}
    assert jobfolder.never_ran(request.folder)  # should it arrive now, it finds no claim


def test_a_job_that_has_begun_and_is_gone_is_not_given_up_by_reattach(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench()
    request = bench.request({})
    (request.folder / jobfolder.CLAIM).write_text('{"pid": 1}')
    found = bench.session.reattach([request])[request.key]
    assert isinstance(found, JobHandle)


def test_a_job_that_another_driver_has_held_is_not_waited_for(
    slurm: FakeSlurm, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(patience=60.0)
    request, sent = bench.request({}), bench.request({})
    # The other one got an answer to neither; Slurm has the second.
    slurm.shows(("8", sent.key, "PENDING", "Priority", 0))
    folders = jobfolder.JobFolders(bench.run_dir)
    handles = [folders.handle(request), folders.handle(sent)]
    statuses = bench.session.poll(handles)
    assert statuses[request.key].state is JobState.LOST
    assert "before Slurm had room for it" in statuses[request.key].message
    assert jobfolder.never_ran(request.folder)
    assert statuses[sent.key].state is JobState.QUEUED


def test_doctor_believes_a_partition_that_is_not_shown_but_has_run_a_job(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    slurm.commands.script(
        "scontrol",
        "case $2 in partition) echo 'Partition main not found' >&2; exit 1;; esac; "
        + CONFIG.format("none"),
    )
    slurm.commands.script("sbatch", 'for last; do :; done; bash "$last" >/dev/null 2>&1; echo 7')
    slurm.shows(("7", "axsched-doctor", "COMPLETED", "None", 0))
    found = {check.name: check for check in checks(SlurmOptions(partition="main"))}
    assert found["job"].ok
    assert found["partition"].ok
    assert "is not shown, but has run a job" in found["partition"].message
    slurm.shows(("7", "axsched-doctor", "FAILED", "None", 1 << 8))
    found = {check.name: check for check in checks(SlurmOptions(partition="main"))}
    assert not found["partition"].ok
