"""Slurm's servers stop, die and hang: no job changes its state, and afterwards the run goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import BackendUnavailable, OptimizationInterrupted, OptimizerError
from axsched_core.jobs import Cause, JobHandle, JobState, NotSubmitted, ScriptObjective
from axsched_core.testing import RandomSearch
from axsched_core.testing.bench import Bench
from support import slurm_cluster as slurm
from support.ctrl_c import press_ctrl_c
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster
from support.slurm_commands import REAL, Commands
from support.waiting import wait_until

OpenBench = Callable[..., Bench]
UNTIL_TOLD = ScriptObjective(
    ("/bin/sh", "-c", "until [ -e ../../go ]; do sleep 0.1; done; echo 1 >$AXSCHED_RESULT_FILE")
)


def start(bench: Bench, count: int = 1) -> list[JobHandle]:
    return bench.submit(*[bench.request({}, objective=UNTIL_TOLD) for _ in range(count)])


def let_go(bench: Bench) -> None:
    (bench.run_dir / "go").touch()


def saved(cluster: SlurmCluster, bench: Bench) -> None:
    """Wait until the controller has the bench's jobs on its disk, as they are now."""
    later = f"later-than-{bench.run_id}"
    cluster.run("sbatch", "-o", "/dev/null", "--hold", "-J", later, "--wrap", "true")
    wait_until(lambda: cluster.has_saved(later), 60, "the controller has saved the jobs")


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGTERM, "slurm_cluster"), (signal.SIGKILL, "slurm_cluster_plain")],
)
def test_the_controller_dies_and_comes_back(
    number: int,
    name: str,
    request: pytest.FixtureRequest,
    use: Callable[[SlurmCluster], None],
    open_bench: OpenBench,
) -> None:
    either: SlurmCluster = request.getfixturevalue(name)
    use(either)
    bench = open_bench()
    handles = start(bench, 30)  # more than there are CPUs
    bench.running(*handles[:24])
    saved(either, bench)
    either.kill("slurmctld", number)
    with pytest.raises(BackendUnavailable):
        while True:  # until it is time to ask again
            bench.session.poll(handles)
    # Nothing is submitted while it is away, nor given up.
    later = bench.request({}, objective=UNTIL_TOLD)
    with pytest.raises(BackendUnavailable):
        bench.session.submit([later])
    with pytest.raises(BackendUnavailable):
        bench.session.reattach([later])
    with pytest.raises(BackendUnavailable):
        bench.session.cancel(handles[-1:], "not now")
    either.start("slurmctld")
    assert not any(s.state.ended for k, s in bench.session.poll(handles[:-1]).items())
    (last,) = bench.submit(later)
    let_go(bench)
    ended = bench.wait([*handles, last])
    assert ended.pop(handles[-1].key).state is JobState.CANCELLED
    assert {status.state for status in ended.values()} == {JobState.SUCCEEDED}


def test_a_job_that_the_controller_has_forgotten(
    slurm_cluster_plain: SlurmCluster, use: Callable[[SlurmCluster], None], open_bench: OpenBench
) -> None:
    """Killed before it had saved the job, it gives the same id to somebody else's."""
    use(slurm_cluster_plain)
    bench = open_bench(patience=2.0, sbatch_options={"hold": True})
    # The controller saves its jobs every few seconds; ours comes just after it has.
    first = f"before-{bench.run_id}"
    slurm_cluster_plain.run("sbatch", "-o", "/dev/null", "-J", first, "--wrap", "true")
    wait_until(lambda: slurm_cluster_plain.has_saved(first), 60, "the controller has saved it")
    (handle,) = start(bench)
    slurm_cluster_plain.kill("slurmctld")
    assert not slurm_cluster_plain.has_saved(handle.key), "it is not forgotten: nothing is tested"
    slurm_cluster_plain.start("slurmctld")
    other = ""
    while other != handle.backend_id:
        sleeper = ("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 99")
        other = slurm_cluster_plain.run(*sleeper).strip()
        assert int(other) <= int(handle.backend_id), "no id is given twice: nothing is tested"
    status = bench.status(handle)
    assert status.state is JobState.LOST
    assert "has never begun" in status.message
    bench.session.cancel([handle], "it is not ours")
    shown = slurm_cluster_plain.run("squeue", "-h", "-j", handle.backend_id, "-o", "%T")
    assert shown.strip() in ("RUNNING", "PENDING")


def test_a_controller_that_hangs(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(command_timeout=2.0)
    handles = start(bench, 2)
    bench.running(*handles)
    saved(either, bench)
    either.kill("slurmctld", signal.SIGSTOP)
    with pytest.raises(BackendUnavailable, match="has not answered in 2 s"):
        while True:  # until it is time to ask again
            bench.session.poll(handles)
    later = bench.request({}, objective=UNTIL_TOLD)
    with pytest.raises(BackendUnavailable, match="has not answered in 2 s"):
        bench.session.submit([later])
    either.kill("slurmctld", signal.SIGCONT)
    (last,) = bench.submit(later)
    let_go(bench)
    ended = bench.wait([*handles, last])
    assert {status.state for status in ended.values()} == {JobState.SUCCEEDED}


def test_commands_that_hang_hold_up_neither_the_timeout_nor_ctrl_c(
    cluster: SlurmCluster, commands: Commands, tmp_path: Path
) -> None:
    config = {"job_output_dir": tmp_path, "progress": False, "monitoring_interval": 0.5}
    with AxScheduler(RandomSearch({"x": (0, 1)}), "slurm", config) as scheduler:
        scheduler.set_objective_function(lambda x: time.sleep(1000))
        for name in ("squeue", "scancel"):
            commands.script(name, "exec sleep 1000")
        began = time.monotonic()
        with pytest.raises(OptimizerError, match="the run's timeout"):
            scheduler.run_optimization(max_trials=2, timeout=3)
        assert time.monotonic() - began < 55  # one command alone may take 60 s
        presser = press_ctrl_c(hangs := threading.Event())
        began = time.monotonic()
        tell_when_asked(commands, hangs)
        with pytest.raises(OptimizationInterrupted):
            scheduler.run_optimization(max_trials=1)
        assert time.monotonic() - began < 55
        presser.join()
        for name in ("squeue", "scancel"):
            commands.restore(name)


def tell_when_asked(commands: Commands, hangs: threading.Event) -> None:
    """Set the event once squeue is called again."""
    before = commands.calls("squeue")

    def look() -> None:
        wait_until(lambda: commands.calls("squeue") > before)
        hangs.set()

    threading.Thread(target=look, daemon=True).start()


def test_an_array_whose_answer_was_lost_is_found(
    either: SlurmCluster, commands: Commands, open_bench: OpenBench, tmp_path: Path
) -> None:
    bench = open_bench(command_timeout=3.0)
    requests = [bench.request({}, objective=UNTIL_TOLD) for _ in range(4)]
    commands.script("sbatch", f'{REAL["sbatch"]} "$@" >/dev/null; exec sleep 1000')
    with pytest.raises(BackendUnavailable, match="has not answered in 3 s"):
        bench.session.submit(requests)
    commands.restore("sbatch")
    # A new driver finds its elements by the array's name and the table of indices.
    other = Bench(type(bench.session._runner)(), tmp_path / "elsewhere", 60)
    found = open_again(bench, other).session.reattach(requests)
    handles = bench.submit(*requests)
    assert [found[handle.key] for handle in handles] == handles
    assert commands.calls("sbatch") == 1
    shown = either.run("squeue", "-h", "-r", "-o", "%j").split()
    assert len([name for name in shown if name.startswith(bench.run_id)]) == 4
    let_go(bench)
    assert {s.state for s in bench.wait(handles).values()} == {JobState.SUCCEEDED}


def open_again(bench: Bench, other: Bench) -> Bench:
    """Have another session open the run of the first one."""
    from axsched_core.jobs import RunnerContext

    other.session.open(RunnerContext(bench.run_id, bench.run_dir, lambda key: None, 0.1, 200_000))
    return other


def test_what_was_never_submitted_never_is(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench()
    request = bench.request({}, objective=UNTIL_TOLD)
    assert bench.session.reattach([request]) == {request.key: NotSubmitted()}
    assert bench.session.reattach([request]) == {request.key: NotSubmitted()}


def test_accounting_is_away(cluster: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench()
    handles = start(bench, 3)
    bench.running(*handles)
    cluster.stop("slurmdbd")
    cluster.run("scancel", handles[0].backend_id)
    let_go(bench)
    ended = bench.wait(handles)
    assert [ended[handle.key].state for handle in handles] == [
        JobState.CANCELLED,
        JobState.SUCCEEDED,
        JobState.SUCCEEDED,
    ]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster whose controller forgets a job two seconds after its end."""
    need("Slurm with accounting", slurm.missing())
    folder = tmp_path_factory.mktemp("forgetful")
    with SlurmCluster(folder, nodes=1, settings={"MinJobAge": 2}) as cluster:
        yield cluster


def test_accounting_remembers_what_the_controller_forgets(
    forgetful: SlurmCluster, use: Callable[[SlurmCluster], None], open_bench: OpenBench
) -> None:
    use(forgetful)
    bench = open_bench(patience=30.0)
    (handle,) = start(bench)
    bench.running(handle)
    forgetful.run("scancel", handle.backend_id)

    def forgotten() -> bool:
        return bench.run_id not in forgetful.run("squeue", "-h", "-t", "all", "-o", "%j")

    wait_until(forgotten, 120, "the controller has forgotten it")
    # While accounting is away too, nobody can say what has become of it.
    forgetful.stop("slurmdbd")
    for _ in range(3):
        assert bench.session.poll([handle]) == {}
    forgetful.start("slurmdbd")
    status = bench.status(handle)
    assert (status.state, status.backend_state) == (JobState.CANCELLED, "CANCELLED")


def test_an_element_that_somebody_cancels_while_it_waits_is_cancelled(
    either: SlurmCluster, open_bench: OpenBench
) -> None:
    bench = open_bench(patience=60.0)
    handles = bench.submit(*[bench.request({"do": "hang"}) for _ in range(40)])
    waiting = handles[-1]
    bench.running(handles[0])
    either.run("scancel", waiting.backend_id)
    # It vanishes from all lists, while they have the rest of its array.
    assert (
        waiting.backend_id not in either.run("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()
    )
    status = bench.status(waiting)
    assert (status.state, status.cause) == (JobState.CANCELLED, Cause.CANCELLED)
    assert "somebody has cancelled it" in status.message
    others = bench.session.poll(handles[:-1]).values()
    assert not any(other.state.ended for other in others)
