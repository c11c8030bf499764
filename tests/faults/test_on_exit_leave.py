"""`on_exit="leave"` with real jobs: they outlive their driver, and the next one finds them."""

from __future__ import annotations

import time
from pathlib import Path

from axsched_core import AxScheduler
from axsched_core.trials import TrialState
from support.toy import ToyOptimizer


def test_a_job_that_is_left_runs_on_and_is_found_again(tmp_path: Path):
    go, script = tmp_path / "go", tmp_path / "simulate.sh"
    script.write_text(
        f"echo ran >> {tmp_path}/runs; while [ ! -e {go} ]; do sleep 0.05; done\n"
        'echo \'{"loss": 4}\' > "$AXSCHED_RESULT_FILE"\n'
    )
    config = {
        "job_output_dir": tmp_path / "out",
        "monitoring_interval": 0.05,
        "progress": False,
        "on_exit": "leave",
    }
    with AxScheduler(ToyOptimizer(), "joblib", config, {"n_jobs": 1}) as scheduler:
        scheduler.set_script_objective(script)
        scheduler.run_trial(scheduler.get_next_trial())
        deadline = time.monotonic() + 30
        while scheduler.monitor_trials()[0].state is not TrialState.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not (scheduler.trials[0].folder / "cancel").exists()
    go.touch()
    with AxScheduler.resume(scheduler.run_directory, optimizer=ToyOptimizer()) as again:
        again.finish()
        assert again.trials[0].results == {"loss": (4.0, None)}
        assert again.trials[0].attempts == 1
    assert (tmp_path / "runs").read_text() == "ran\n"
