"""Trials that are longer than a Slurm job may run: each saves its state and goes on in another.

    python examples/slurm_checkpoint.py [--partition NAME]

A job may run for a minute, a training takes about 50 s of work, and Slurm sends SIGUSR1 up to a
minute before the end. The training (slurm_checkpoint/train.py) then saves its state and ends, and
the setting ``retry`` gives the trial another job. Its exit status is 1 if a trial did not go on
from where it was.

With ``--partition`` the jobs go to your own cluster. Without it, a private cluster is started on
this machine, in a checkout with Debian's Slurm.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def optimize(partition, outputs):
    """Run three trials.

    Returns:
        The step at which each attempt began, by trial.
    """
    from ax import Client, RangeParameterConfig

    from axsched_core import AxScheduler

    client = Client(random_seed=0)
    rate = RangeParameterConfig(name="rate", bounds=(0.001, 0.1), parameter_type="float")
    client.configure_experiment(name="training", parameters=[rate])
    client.configure_optimization(objective="-loss")
    checkpoints = outputs / "checkpoints"
    checkpoints.mkdir()
    scheduler = AxScheduler(
        client,
        "slurm",
        config={
            "job_output_dir": outputs,
            "monitoring_interval": 2,
            # The training asks for another attempt by its exit code.
            "retry": {"attempts": {"EXIT_CODE": 10}},
        },
        runner_options={
            "partition": partition,
            "time_limit": "00:01:00",
            # B: the signal is sent to the batch script alone, which is axsched's worker by then. It
            # passes the signal on to the training.
            "sbatch_options": {"signal": "B:USR1@25"},
        },
    )
    scheduler.set_script_objective(
        HERE / "slurm_checkpoint" / "train.py", {"env": {"CHECKPOINTS": str(checkpoints)}}
    )
    begins = {}
    with scheduler:
        scheduler.run_optimization(max_trials=3)
        for trial in scheduler.trials.values():
            print(f"trial {trial.index}: {trial.state.value} {trial.results} {trial.message}")
            logs = sorted(trial.folder.parent.glob(f"{trial.index:05}-*/stdout.log"))
            begins[trial.index] = [int(log.read_text().split()[-1]) for log in logs]
    return begins


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--partition", help="of your own cluster; default: start a private one")
    options = parser.parse_args()
    outputs = Path("outputs").absolute()
    outputs.mkdir(exist_ok=True)
    outputs = Path(tempfile.mkdtemp(prefix="slurm-checkpoint-", dir=outputs))
    if options.partition is not None:
        begins = optimize(options.partition, outputs)
    else:
        sys.path.insert(0, str(HERE.parent / "tests"))
        from support import missing_backends
        from support.slurm_cluster import SlurmCluster, missing

        if packages := missing(accounting=False):
            line = missing_backends.install_line(packages)
            print(f"Not run, because Slurm is not installed. As root: {line}")
            return 1 if missing_backends.required() else 0
        with (
            tempfile.TemporaryDirectory(prefix="axsched-slurm-") as folder,
            SlurmCluster(Path(folder), accounting=False, nodes=1) as cluster,
        ):
            os.environ |= cluster.env
            begins = optimize("main", outputs)
    for index, steps in begins.items():
        print(f"trial {index} began at the steps {steps}")
    went_on = all(steps[0] == 0 and sorted(set(steps)) == steps for steps in begins.values())
    return 0 if went_on and any(len(steps) > 1 for steps in begins.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
