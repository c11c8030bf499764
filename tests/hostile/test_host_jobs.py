"""Jobs that run as the driver's own user: no wall, and nothing stumbles over what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import axsched_joblib
import axsched_slurm
import pytest
from axsched_joblib import JobLibRunner
from axsched_slurm import SlurmRunner

import axsched_core
from axsched_core import jobfolder
from axsched_core.folders import remove_tree
from axsched_core.jobs import JobState, JobStatus, NotReady, ScriptObjective
from axsched_core.testing import Bench
from support import IMPORT_ROOT, slurm_cluster
from support.hostile_jobs import CASES, WRITE, Attack, Case, digest, make_victim
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster

PACKAGES = [Path(one.__file__).parent for one in (axsched_core, axsched_joblib, axsched_slurm)]


@pytest.fixture(scope="module", params=["joblib", "slurm"])
def attack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attack]:
    folder = tmp_path_factory.mktemp(request.param)
    victim = make_victim(folder / "victim")
    if request.param == "joblib":
        bench = Bench(JobLibRunner(4), folder / "runs", patience=120)
        yield Attack(bench, victim, PACKAGES, ScriptObjective)
        bench.close()
        return
    need("Slurm", slurm_cluster.missing(accounting=False))
    with (
        SlurmCluster(folder / "cluster", accounting=False) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in cluster.env.items():
            patch.setenv(name, value)
        bench = Bench(SlurmRunner(patience=5.0), folder / "runs", patience=240)
        yield Attack(bench, victim, PACKAGES, ScriptObjective)
        bench.close()


def test_nothing_outside_is_touched(attack: Attack) -> None:
    assert attack.touches_nothing()


def test_nothing_in_a_job_s_folder_is_opened_by_a_path(attack: Attack) -> None:
    assert attack.paths == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_valid_result_counts_and_all_else_fails_alone(attack: Attack, case: Case) -> None:
    result, handle = attack.result_of(case), attack.handles[case]
    if isinstance(result, NotReady):
        assert case.words in result.reason
    progress = attack.bench.session.read_progress([handle], {handle.key: 0})
    assert b"secret" not in progress.get(handle.key, b"")


def test_the_next_driver_sees_the_same_and_what_is_removed_is_the_folder(attack: Attack) -> None:
    attack.bench.session.close(True)
    attack.bench.session.open(attack.bench.context)
    statuses = attack.bench.session.poll(list(attack.handles.values()))
    assert {status.state for status in statuses.values()} == {JobState.SUCCEEDED}
    before = digest(attack.victim)
    for handle in attack.handles.values():
        folder = attack.bench.folder(handle)
        jobfolder.keep_from_running(folder, "test")
        remove_tree(folder)
        assert not os.path.lexists(folder)
    assert digest(attack.victim) == before


# ---- what a job does to its own folder, and the run goes on --------------------------------------

DROPPED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
"""Root without these is an ordinary user as far as files are concerned."""
MODES = {"nothing": "000", "no entering": "600", "no writing": "500"}


def _in_words(command: str) -> JobStatus:
    """The end of a job under joblib that has run this; for a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(JobLibRunner(1), Path(place), patience=60)
        handle = bench.start({"x": 1}, objective=ScriptObjective(("sh", "-c", command)))
        status = bench.wait([handle])[handle.key]
        assert jobfolder.cancel_reason(bench.folder(handle)) is None
        jobfolder.request_cancel(bench.folder(handle), "test")
        bench.close()
        return status


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
@pytest.mark.parametrize("killed", [False, True])
def test_a_job_may_take_its_folder_s_rights_away(mode: str, killed: bool) -> None:
    end = "kill -9 $PPID; sleep 9" if killed else "sleep 1"
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]; import test_host_jobs as t; "
        "print(t._in_words(sys.argv[1]).state.name)"
    )
    command = f"{WRITE} chmod {mode} $AXSCHED_JOB_DIR; {end}"
    dropped = DROPPED if os.geteuid() == 0 else ()
    here = Path(__file__).parent
    made = subprocess.run(
        [*dropped, sys.executable, "-P", "-c", program, command, str(here), IMPORT_ROOT],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.stdout == ("LOST\n" if killed else "SUCCEEDED\n"), made.stderr


def test_a_job_that_has_begun_cannot_say_that_it_was_taken_back(tmp_path: Path) -> None:
    bench = Bench(JobLibRunner(1), tmp_path, patience=60)
    claim = """cd "$AXSCHED_JOB_DIR"; echo '{"by": "nobody"}' > claim; """
    words = ("sh", "-c", f"{claim} sleep 1; {WRITE}")
    handle = bench.start({"x": 1}, objective=ScriptObjective(words))
    assert bench.wait([handle])[handle.key].state is JobState.SUCCEEDED
    bench.close()
