#!/usr/bin/env python3
"""One job of slurm_checkpoint.py: a training that is longer than a job may run.

Slurm sends SIGUSR1 before the time is over. The script then saves its state and asks for another
attempt, by an exit code other than 0. The next attempt of the same trial goes on from there.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 240
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(True))

with open(os.environ["AXSCHED_PARAMS_FILE"]) as file:
    rate = json.load(file)["rate"]

# Each attempt has a folder of its own, so the state is in one that all attempts share.
state = Path(os.environ["CHECKPOINTS"]) / f"{os.environ['AXSCHED_TRIAL_INDEX']}.json"
step, loss = json.loads(state.read_text()) if state.exists() else (0, 1.0)
print(f"begins at step {step}", flush=True)

while step < STEPS:
    time.sleep(0.2)
    loss -= rate * (loss - (rate - 0.03) ** 2)
    step += 1
    if told and step < STEPS:
        beside = state.with_suffix(".new")
        beside.write_text(json.dumps([step, loss]))
        beside.replace(state)
        sys.exit(f"saved at step {step}")

with open(os.environ["AXSCHED_RESULT_FILE"], "w") as file:
    json.dump({"loss": loss}, file)
