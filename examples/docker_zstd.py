"""Tune a real program in containers, six at a time: zstd from Debian.

A file is compressed and sent over a line of 64 Mbit/s: which settings of zstd make it arrive
soonest? A trial runs the image's `measure.sh` once. It reads its parameters from
$AXSCHED_PARAMS_FILE, compresses the source code of Python's library, and writes the metric to
$AXSCHED_RESULT_FILE; it uses nothing else from axsched.

    python examples/docker_zstd.py [--trials 24] [--parallel 6] [--outputs outputs]

The image is made from this machine's own files (apt-get install zstd busybox-static). If
DOCKER_HOST is set, that engine is used. Otherwise the example starts a private one while it
runs, which needs root and apt-get install docker.io.
"""

import argparse
import contextlib
import logging
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import docker
from ax import Client, RangeParameterConfig
from ax.utils.common.logger import set_ax_logger_levels

from axsched_core import AxScheduler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.container_images import image, programs

IMAGE = "axsched-example/zstd:1"
MEASURE = """#!/bin/sh
set -eu
value() { sed -n 's/.*"'"$1"'": *\\([0-9]*\\).*/\\1/p' "$AXSCHED_PARAMS_FILE"; }
settings="wlog=$(value window_log),mml=$(value min_match),slog=$(value search_log)"
time -f %U -o /tmp/seconds \\
    zstd "-$(value level)" "--zstd=$settings" --single-thread -qc /app/input > /tmp/output
bytes=$(wc -c < /tmp/output)
seconds=$(cat /tmp/seconds)
echo "level $(value level), $settings: $bytes bytes after $seconds s of CPU"
awk -v s="$seconds" -v b="$bytes" \\
    'BEGIN { printf "{\\"seconds\\": %.4f}", s + b / 8e6 }' > "$AXSCHED_RESULT_FILE"
"""
SEARCH_SPACE = [
    RangeParameterConfig(name="level", bounds=(1, 19), parameter_type="int"),
    RangeParameterConfig(name="window_log", bounds=(17, 24), parameter_type="int"),
    RangeParameterConfig(name="min_match", bounds=(3, 7), parameter_type="int"),
    RangeParameterConfig(name="search_log", bounds=(1, 7), parameter_type="int"),
]
DEFAULTS = {"level": 3, "window_log": 21, "min_match": 5, "search_log": 1}
"""zstd's own settings for a file of this size."""


@contextlib.contextmanager
def an_engine():
    """The address of an engine: the one in DOCKER_HOST, or a private one."""
    if host := os.environ.get("DOCKER_HOST"):
        yield host
        return
    from support.docker_engine import DockerEngine

    with DockerEngine(Path(tempfile.mkdtemp(prefix="axsched-example-"))) as engine:
        yield engine.url


def make_image(host):
    """Make the image: zstd with its libraries, busybox, the script, and the file to compress."""
    with tempfile.TemporaryDirectory() as folder:
        script, text = Path(folder, "measure.sh"), Path(folder, "input")
        script.write_text(MEASURE)
        script.chmod(0o755)
        library = Path(sysconfig.get_path("stdlib"))
        text.write_bytes(b"".join(path.read_bytes() for path in sorted(library.glob("*/*.py"))))
        files = {"/app/measure.sh": script, "/app/input": text}
        tar = image({**files, **programs([Path(shutil.which("zstd"))])})
    repository, _, tag = IMAGE.partition(":")
    with contextlib.closing(docker.APIClient(base_url=host)) as client:
        client.import_image_from_data(
            tar, repository=repository, tag=tag, changes=["ENV PATH=/usr/bin:/bin"]
        )


def missing():
    """The packages that must be installed first."""
    names = {"zstd": "zstd", "busybox": "busybox-static"}
    if "DOCKER_HOST" not in os.environ:
        names["dockerd"] = "docker.io"
    search = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [package for name, package in names.items() if not shutil.which(name, path=search)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--parallel", type=int, default=6, help="containers at a time")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    options = parser.parse_args()
    if packages := missing():
        words = f"Not run: apt-get install --no-install-recommends {' '.join(packages)}"
        print(words)
        return 1 if os.environ.get("AXSCHED_REQUIRE_BACKENDS") == "1" else 0

    set_ax_logger_levels(logging.WARNING)  # without this, Ax prints a line for each trial
    client = Client(random_seed=0)
    client.configure_experiment(name="zstd", parameters=SEARCH_SPACE)
    client.configure_optimization(objective="-seconds")

    with an_engine() as host:
        make_image(host)
        config = {"job_output_dir": options.outputs}
        runner = {"host": host, "max_containers": options.parallel, "network": "none"}
        with AxScheduler(client, "docker", config, runner) as scheduler:
            scheduler.set_container_objective(
                IMAGE,
                "/app/measure.sh",
                {"memory": "1g", "read_only": True, "tmpfs": ["/tmp"]},
            )
            with scheduler.batch_trial_context() as batch:
                batch.add_trial(DEFAULTS)
            best = scheduler.run_optimization(max_trials=options.trials)

    trials = scheduler.trials.values()
    seconds = {t.index: t.results["seconds"][0] for t in trials if t.results}
    winner = scheduler.trials[best.trial_index]
    print(f"\n{len(seconds)} trials. The file arrives after (zstd's defaults, then the best):")
    for index, parameters in ((min(seconds), DEFAULTS), (winner.index, best.parameters)):
        print(f"  trial {index:>2}: {seconds[index]:.3f} s  {parameters}")
    print(f"Output of the best trial: {(winner.folder / 'stdout.log').read_text().strip()}")
    print(f"Parameters, results and logs of each trial: {scheduler.run_directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
