#!/usr/bin/env python3
"""One job of slurm_day.py: a "simulation" of a reactor that takes some seconds.

It knows nothing about Ax or axsched: it reads parameters from a JSON file and writes its result to
another. The environment variable MISHAPS says which jobs go wrong, and how.
"""

import json
import math
import os
import sys
import time

with open(os.environ["AXSCHED_PARAMS_FILE"]) as file:
    parameters = json.load(file)

print(os.environ["SLURMD_NODENAME"])  # goes to stdout.log in the trial's folder

mishaps = {int(index): what for index, what in json.loads(os.environ["MISHAPS"]).items()}
mishap = mishaps.get(int(os.environ["AXSCHED_TRIAL_INDEX"]))
if mishap == "fails":
    sys.exit("the mesh could not be made")
if mishap == "runs out of memory":
    everything = b"x" * 1_000_000_000
if mishap == "hangs":
    time.sleep(3600)

time.sleep(2 + parameters["residence"] / 2)
hot = (parameters["temperature"] - 78) / 20
long = math.log(parameters["residence"] / 3)
grams = 96 * math.exp(-(hot**2) - long**2 / 2 - 0.3 * hot * long)

with open(os.environ["AXSCHED_RESULT_FILE"], "w") as file:
    json.dump({"grams": grams}, file)
