"""A day on a Slurm cluster: 40 trials, 12 at once, and everything that can go wrong does.

    python examples/slurm_day.py [--trials 40] [--at-once 12] [--partition NAME]

One trial fails, one uses more memory than it asked for, one never ends, a node
loses its power while its jobs run, and the driver (this program, started as another process) is
killed and resumed. At the end it prints the best point in the jobs' own records, and how each
trial ended. Its exit status is 1 if a trial ended in another way than planned.

With ``--partition`` the jobs go to your own cluster, and its nodes stay alive. Without it, a
private cluster of three nodes is started on this machine, in a checkout with Debian's Slurm.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MISHAPS = {5: "fails", 9: "runs out of memory", 14: "hangs"}


def make_scheduler(options):
    """Make the first driver's scheduler, with the whole definition of the optimization."""
    from ax import Client, RangeParameterConfig

    from axsched_core import AxScheduler

    client = Client(random_seed=0)
    client.configure_experiment(
        name="reactor",
        parameters=[
            RangeParameterConfig(name="temperature", bounds=(20.0, 140.0), parameter_type="float"),
            RangeParameterConfig(name="residence", bounds=(0.5, 8.0), parameter_type="float"),
        ],
    )
    client.configure_optimization(objective="grams")
    # Half of the trials at random: enough for two parameters, and a model is slow.
    client.configure_generation_strategy(initialization_budget=options.trials // 2)
    scheduler = AxScheduler(
        client,
        "slurm",
        config={"job_output_dir": options.outputs, "max_parallelism": options.at_once},
        runner_options={
            "partition": options.partition,
            "time_limit": "00:05:00",
            "memory": "200M",
            "cpus_per_task": 1,
            # If a node dies, Slurm does not restart its jobs; axsched tries them again.
            "sbatch_options": {"no-requeue": True},
        },
    )
    scheduler.set_script_objective(HERE / "slurm_day" / "reactor.py", script_options())
    return scheduler


def script_options():
    return {"timeout": 45, "env": {"MISHAPS": json.dumps(MISHAPS)}}


def drive(options):
    """The user's own program; with ``--resume`` the program that continues its run."""
    import logging

    from ax.utils.common.logger import set_ax_logger_levels

    from axsched_core import AxScheduler

    set_ax_logger_levels(logging.WARNING)  # without this, Ax prints a line for each trial
    if options.resume is None:
        scheduler = make_scheduler(options)
        scheduler.run_optimization(max_trials=options.trials)
    else:
        scheduler = AxScheduler.resume(options.resume)
        # Values of environment variables are secrets: the journal has only their names.
        scheduler.set_script_objective(HERE / "slurm_day" / "reactor.py", script_options())
        scheduler.finish()
    account = [
        {
            "index": trial.index,
            "parameters": dict(trial.parameters),
            "state": trial.state.value,
            "cause": trial.cause and trial.cause.value,
            "message": trial.message,
            "grams": trial.results and trial.results["grams"][0],
            "attempts": trial.attempts,
            "folder": str(trial.folder),
        }
        for trial in scheduler.trials.values()
    ]
    scheduler.close()
    (options.outputs / "account.json").write_text(json.dumps(account))


def wait_for(condition, driver):
    """Wait until the condition is true, while the driver lives."""
    deadline = time.monotonic() + 600
    while not condition():
        if driver.poll() is not None:
            sys.exit(f"the driver has ended too early, with status {driver.returncode}")
        if time.monotonic() > deadline:
            sys.exit("the awaited state was not reached within ten minutes")
        time.sleep(0.1)


def ended(options):
    """How many jobs of the run have ended."""
    return len(list(options.outputs.glob("*/jobs/*/exit.json")))


def running(cluster, node):
    """How many jobs run on a node."""
    return len(cluster.run("squeue", "-h", "-w", node, "-t", "running").splitlines())


def start_driver(options, *more):
    command = [sys.executable, __file__, "--drive", f"--outputs={options.outputs}", *more]
    command += [f"--trials={options.trials}", f"--at-once={options.at_once}"]
    return subprocess.Popen([*command, f"--partition={options.partition}"])


def day(options, cluster):
    """Cause the faults: cut a node's power, and kill the driver."""
    driver = start_driver(options)
    try:
        wait_for(lambda: ended(options) >= options.trials // 4, driver)
        if cluster is not None:
            wait_for(lambda: running(cluster, "n2") >= 2, driver)
            print("--- n2 loses its power", flush=True)
            cluster.kill_node("n2")
        wait_for(lambda: ended(options) >= options.trials // 2, driver)
        print("--- the driver is killed", flush=True)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        if cluster is not None:
            print("--- n2 is switched on again", flush=True)
            cluster.start_node("n2")
        (run,) = (path.parent for path in options.outputs.glob("*/journal.jsonl"))
        print(f"--- another driver resumes {run.name}", flush=True)
        driver = start_driver(options, f"--resume={run}")
        if driver.wait() != 0:
            sys.exit(f"the second driver has ended with status {driver.returncode}")
    finally:
        driver.kill()
        driver.wait()


def report(options):
    """Print how each trial ended, and the best point, from the jobs' own files.

    Returns:
        How many jobs were made again, and what is wrong.
    """
    account = json.loads((options.outputs / "account.json").read_text())
    wrong, records = [], []
    print(f"\n{'trial':>5} {'temp.':>7} {'resid.':>7} {'grams':>7} {'jobs':>5}  how it ended")
    for trial in account:
        index, folder = trial["index"], Path(trial["folder"])
        parameters = json.loads((folder / "params.json").read_text())
        node = (folder / "stdout.log").read_text().partition("\n")[0]
        measured = None
        if trial["state"] == "SUCCEEDED":
            measured = json.loads((folder / "result.json").read_text())["grams"]
            records.append((measured, parameters, index))
        words = [trial["state"], "on", node, trial["cause"], trial["message"]]
        print(
            f"{index:>5} {parameters['temperature']:>7.2f} {parameters['residence']:>7.2f}"
            f" {'' if measured is None else f'{measured:.2f}':>7} {trial['attempts']:>5}  "
            f"{' '.join(filter(None, words))[:90]}"
        )
        if parameters != trial["parameters"] or measured != trial["grams"]:
            wrong.append(f"trial {index} is not what its job's files say")
        wanted = "FAILED" if index in MISHAPS else "SUCCEEDED"
        if trial["state"] != wanted:
            wrong.append(f"trial {index} is {trial['state']}, not {wanted}")
    if len(account) != options.trials:
        wrong.append(f"there are {len(account)} trials, not {options.trials}")
    best, parameters, index = max(records)
    print(f"\nBest of {len(records)} records: trial {index}, {best:.2f} g with {parameters}")
    return sum(trial["attempts"] - 1 for trial in account), wrong


@contextlib.contextmanager
def private_cluster(folder):
    """Start a private cluster if Slurm is installed; its commands are then on PATH."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from support import missing_backends
    from support.slurm_cluster import SlurmCluster, missing

    if packages := missing(accounting=True):
        line = missing_backends.install_line(packages)
        print(f"Not run, because Slurm is not installed. As root: {line}")
        sys.exit(1 if missing_backends.required() else 0)
    with SlurmCluster(folder, cpus=4, settings={"SlurmdTimeout": 5}) as cluster:
        os.environ |= cluster.env
        yield cluster


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--partition", help="of your own cluster; default: start a private one")
    parser.add_argument("--outputs", type=Path, help="on a file system that all nodes share")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--resume", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trials <= max(MISHAPS):
        parser.error(f"--trials must be more than {max(MISHAPS)}")
    options.outputs = (options.outputs or Path("outputs") / "slurm-day").absolute()
    if options.drive:
        drive(options)
        return 0
    options.outputs.mkdir(parents=True, exist_ok=True)
    options.outputs = Path(tempfile.mkdtemp(prefix="day-", dir=options.outputs))
    cluster = None
    if options.partition is not None:
        day(options, cluster)
    else:
        options.partition = "main"
        with (
            tempfile.TemporaryDirectory(prefix="axsched-slurm-") as folder,
            private_cluster(Path(folder)) as cluster,
        ):
            day(options, cluster)
            if left := cluster.run("squeue", "-h", "-t", "pending,running"):
                sys.exit(f"jobs are left: {left}")
    again, wrong = report(options)
    print(f"Jobs that were made again: {again}")
    if cluster is not None and not again:
        wrong.append("no job was made again, though a node died")
    print(f"Parameters, results and logs of each job: {options.outputs}")
    for words in wrong:
        print(f"WRONG: {words}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
