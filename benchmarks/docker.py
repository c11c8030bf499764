"""What it costs to run trials in containers: axsched against loops written by hand, on one engine.

    python benchmarks/docker.py [--trials 40] [--at-once 8] [--rounds 6] [--containers 200]

Starts a private engine (needs root, and Debian's docker.io and busybox-static) and runs, by turns,
the same no-op in so many containers at once:

* ``shell``: ``docker run --rm`` with the results' folder mounted, by ``xargs -P``;
* ``sdk``: a loop over the docker SDK with a pool of threads, as one would write it by hand: create,
  copy a file in, start, wait, copy the folder out, save the log, remove;
* ``axsched``: AxScheduler with random search and the docker runner as it comes: files are copied in
  and out, logs and exit code are kept, the run is durable;
* ``sdk-mount``, ``axsched-mount``: the same with a folder that is mounted.

Every second round goes backwards, since an engine gets slower with each container. Medians count.
In one more round a proxy counts the engine's calls of all but the shell. Then so many containers
are looked at while they run. Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import tell

# Not this folder, where `import docker` would find this very file.
sys.path.remove(str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from axsched_docker import DockerRunner

from axsched_core import AxScheduler
from axsched_core.jobs import ContainerObjective, JobState
from axsched_core.testing import Bench, RandomSearch
from support.container_images import BUSYBOX, busybox_image
from support.docker_engine import DockerEngine, missing
from support.engine_proxy import EngineProxy
from support.missing_backends import install_line

RATE = 0.95
"""What is aimed at, of the rate of the SDK loop that brings its files in the same way."""
MORE_CALLS = 1
"""How many more calls a container may cost than in that loop."""
MORE_CPU = 2.0
"""How many times the CPU time of that loop's process the driver's may cost."""
NO_OP = """echo '{"loss": 1}' > """


def shell(url: str, folder: Path, trials: int, at_once: int) -> None:
    run = f"docker run --rm --network none -v {folder}:/out {BUSYBOX}"
    one = f"{run} sh -c 'echo 1 > /out/{{}}.json'"
    numbers = "\n".join(map(str, range(trials)))
    subprocess.run(
        ["xargs", "-P", str(at_once), "-I", "{}", "sh", "-c", one],
        input=numbers,
        text=True,
        check=True,
        env={**os.environ, "DOCKER_HOST": url},
    )
    assert len(list(folder.glob("*.json"))) == trials


def sdk(mount: bool) -> Callable[[str, Path, int, int], None]:
    import docker

    def loop(url: str, folder: Path, trials: int, at_once: int) -> None:
        client = docker.DockerClient(base_url=url, max_pool_size=2 * at_once)

        def run(number: int) -> None:
            place = folder / str(number)
            place.mkdir()
            (place / "params.json").write_text('{"x": 0.5}')
            container = client.containers.create(
                BUSYBOX,
                ["sh", "-c", f"mkdir -p /out; {NO_OP}/out/result.json"],
                volumes={str(place): {"bind": "/out"}} if mount else {},
                network_mode="none",
            )
            if not mount:
                container.put_archive("/tmp", _packed(place))
            container.start()
            assert container.wait()["StatusCode"] == 0
            if not mount:
                pieces, _ = container.get_archive("/out")
                with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
                    tar.extractall(place, filter="data")
            (place / "log").write_bytes(container.logs())
            container.remove()

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, range(trials)))
        assert len(list(folder.rglob("result.json"))) == trials

    return loop


def _packed(place: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(place, ".")
    return packed.getvalue()


def axsched(files: str) -> Callable[[str, Path, int, int], None]:
    def run(url: str, folder: Path, trials: int, at_once: int) -> None:
        options = {"host": url, "max_containers": at_once, "network": "none", "files": files}
        config = {"job_output_dir": folder, "progress": False}
        optimizer = RandomSearch({"x": (0.0, 1.0)})
        with AxScheduler(optimizer, "docker", config, options) as scheduler:
            scheduler.set_container_objective(BUSYBOX, ["sh", "-c", f"{NO_OP}{{output_file}}"])
            scheduler.run_optimization(max_trials=trials)
        states = {trial.state.value for trial in scheduler.trials.values()}
        assert states == {"SUCCEEDED"}, states

    return run


CONTENDERS: dict[str, Callable[[str, Path, int, int], None]] = {
    "shell": shell,
    "sdk": sdk(mount=False),
    "axsched": axsched("copy"),
    "sdk-mount": sdk(mount=True),
    "axsched-mount": axsched("mount"),
}


def look(engine: DockerEngine, count: int) -> tuple[int, float]:
    """Calls and seconds of one look at so many running containers."""
    proxy = EngineProxy(engine.folder / "proxy.sock", engine.socket)
    runner = DockerRunner(host=proxy.url, max_containers=count, network="none", start_concurrency=8)
    objective = ContainerObjective(BUSYBOX, ("sleep", "3600"))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(runner, Path(folder), patience=600.0)
        handles = bench.submit(*[bench.request({}, objective=objective) for _ in range(count)])
        bench.wait(handles, lambda status: status.state is JobState.RUNNING)
        before = len(proxy.calls)
        began = time.perf_counter()
        statuses = bench.session.poll(handles)
        seconds = time.perf_counter() - began
        calls = proxy.calls[before:]
        assert len(statuses) == count
        # Faster than by stopping each: nobody waits for what they leave.
        bench.session.remove_leftovers(bench.run_id)
        bench.session.close(wait=False)
    print(f"\n{count} running containers: one look is {calls} in {1000 * seconds:.0f} ms")
    return len(calls), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--containers", type=int, default=200)
    arguments = parser.parse_args()
    packages, why = missing()
    if packages or why:
        print(why or install_line(packages))
        return 1
    logging.getLogger("axsched").setLevel(logging.ERROR)

    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    cpu: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    """Of this process."""
    cost: dict[str, float] = {}
    """Calls for each container."""
    with (
        tempfile.TemporaryDirectory(prefix="axsched-bench-") as place,
        DockerEngine(Path(place, "engine")) as engine,
    ):
        engine.load(BUSYBOX, busybox_image())
        proxy = EngineProxy(engine.folder / "calls.sock", engine.socket)
        for number in range(arguments.rounds):
            for name, run in list(CONTENDERS.items())[:: -1 if number % 2 else 1]:
                folder = Path(place, f"{name}-{number}")
                folder.mkdir()
                began, worked = time.perf_counter(), time.process_time()
                run(engine.url, folder, arguments.trials, arguments.at_once)
                seconds[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - worked)
                words = f"{seconds[name][-1]:6.2f} s, {cpu[name][-1]:5.2f} s of CPU"
                print(f"{name:<14} {words}", flush=True)
        for name, run in list(CONTENDERS.items())[1:]:
            folder = Path(place, f"{name}-counted")
            folder.mkdir()
            before = len(proxy.calls)
            run(proxy.url, folder, arguments.trials, arguments.at_once)
            cost[name] = (len(proxy.calls) - before) / arguments.trials
        calls, _ = look(engine, arguments.containers)

    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(
        f"\n{arguments.trials} containers, {arguments.at_once} at once, medians (fastest, slowest):"
    )
    for name, taken in seconds.items():
        rates = [arguments.trials / one for one in (middle[name], min(taken), max(taken))]
        work = 1000 * statistics.median(cpu[name]) / arguments.trials
        print(
            f"{name:<14} {rates[0]:5.2f} containers/s ({rates[1]:.2f}, {rates[2]:.2f}), "
            f"{work:5.1f} ms of CPU a container, {cost.get(name, 0):4.1f} calls"
        )
    aims = {f"a look at {arguments.containers} containers is {calls} call": calls == 1}
    for name, loop in (("axsched", "sdk"), ("axsched-mount", "sdk-mount")):
        ratio = middle[loop] / middle[name]
        words = f"{name} runs {ratio:.2f} times as many containers a second as {loop}"
        aims[f"{words} (at least {RATE})"] = ratio >= RATE
        work = statistics.median(cpu[name]) / statistics.median(cpu[loop])
        aims[f"{name} costs {work:.2f} times the CPU of {loop} (at most {MORE_CPU})"] = (
            work <= MORE_CPU
        )
        words = f"{name} makes {cost[name]:.1f} calls a container, {loop} {cost[loop]:.1f}"
        aims[f"{words} (at most {MORE_CALLS} more)"] = cost[name] <= cost[loop] + MORE_CALLS
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
