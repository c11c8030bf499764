"""kill -9 of the driver at random moments; the next one goes on, and nothing is lost or doubled.

The jobs themselves keep the count: each writes a line when it begins to evaluate.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent.parent / "support"
TRIALS = 24

DRIVER = """
    import json, sys, time
    from pathlib import Path
    sys.path.insert(0, {support!r})
    from toy import ToyOptimizer
    from axsched_core import AxScheduler

    out, count = Path({out!r}), {count!r}

    def objective(parameters):
        import os
        with open(count, "a") as file:
            file.write(os.environ["AXSCHED_TRIAL_INDEX"] + "\\n")
        time.sleep(0.05)
        return parameters["x"]

    runs = sorted(out.glob("*/snapshot-0.json")) if out.exists() else []
    if runs:
        scheduler = AxScheduler.resume(runs[0].parent, optimizer=ToyOptimizer())
        print("resumed", flush=True)
        scheduler.finish()
    else:
        config = {{"job_output_dir": out, "progress": False, "monitoring_interval": 0.2}}
        scheduler = AxScheduler(ToyOptimizer(), "joblib", config, {{"n_jobs": 3}})
        scheduler.set_objective_function(objective)
        print("started", flush=True)
        scheduler.run_optimization(max_trials={trials})
    optimizer = scheduler.client
    print(json.dumps({{
        "rows": optimizer.rows,
        "trials": {{i: [t.state, t.results] for i, t in scheduler.trials.items()}},
    }}))
"""


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_random_moments(tmp_path: Path, seed: int):
    dice = random.Random(seed)
    count, script = tmp_path / "count", tmp_path / "driver.py"
    text = textwrap.dedent(DRIVER)
    text = text.format(
        support=str(SUPPORT), out=str(tmp_path / "out"), count=str(count), trials=TRIALS
    )
    script.write_text(text)
    kills = 0
    while True:
        driver = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert driver.stdout is not None
        driver.stdout.readline()
        if kills < 5:
            time.sleep(dice.uniform(0.0, 0.7))  # the moment is the test's own choice
            driver.send_signal(signal.SIGKILL)
            kills += 1
            driver.communicate()
            if driver.returncode == -signal.SIGKILL:
                continue
        out, err = driver.communicate(timeout=120)
        assert driver.returncode == 0, err
        if out:
            break
    last = json.loads(out.splitlines()[-1])
    rows = {int(index): row for index, row in last["rows"].items()}

    assert sorted(rows) == list(range(TRIALS))
    assert {row["status"] for row in rows.values()} == {"COMPLETED"}
    points = [(row["parameters"]["x"], row["parameters"]["y"]) for row in rows.values()]
    fresh = random.Random(0)
    assert points == [(fresh.random(), fresh.random()) for _ in range(TRIALS)]
    assert {row["metrics"]["loss"][0] == row["parameters"]["x"] for row in rows.values()} == {True}
    evaluated = Counter(int(line) for line in count.read_text().split())
    assert evaluated == dict.fromkeys(range(TRIALS), 1)
    assert last["trials"].keys() == last["rows"].keys()
    (run_dir,) = (tmp_path / "out").iterdir()
    lines = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    outcomes = Counter(line["i"] for line in lines if line["k"] == "outcome")
    assert set(outcomes) == set(range(TRIALS))
    assert not (run_dir / "lock.json").exists() or os.path.exists(run_dir / "lock.json")
