"""What function and script runners evaluate for the conformance kit: behaviour on demand.

As a script it does the same with the job folder's files, so it uses only the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Mapping
from typing import Any


def checksum(parameters: Mapping[str, Any]) -> int:
    """A number that is equal for equal mappings of parameters, and different for others."""
    return zlib.crc32(json.dumps(dict(parameters), sort_keys=True).encode())


def act(parameters: Mapping[str, Any]) -> Any:
    """Do what ``parameters["do"]`` says; return the metrics."""
    do = parameters["do"]
    if "mark" in parameters:
        with open(parameters["mark"], "a", encoding="utf-8") as file:
            file.write("ran\n")
    if do == "fail":
        raise ValueError("told to fail")
    if do == "exit":
        sys.stderr.flush()
        os._exit(3)
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "hang":
        while True:
            time.sleep(3600)
    if do == "no result":
        os._exit(0)
    if do in ("torn", "enormous"):
        size = parameters.get("size", 0)
        with open(os.environ["AXSCHED_RESULT_FILE"], "w", encoding="utf-8") as file:
            file.write('{"loss": 0.' if do == "torn" else " " * size)
        os._exit(0)
    if do == "nan":
        return {"loss": float("nan")}
    if do == "print":
        for stream, letter in ((sys.stdout, "o"), (sys.stderr, "e")):
            for _ in range(parameters["kilobytes"]):
                stream.write(letter * 1023 + "\n")
            stream.flush()
    if do == "progress":
        with open(os.environ["AXSCHED_PROGRESS_FILE"], "a", encoding="utf-8") as file:
            for step in range(parameters["steps"]):
                line = json.dumps({"step": step, "loss": 1.0 / (step + 1)}) + "\n"
                for half in (line[:5], line[5:]):
                    file.write(half)
                    file.flush()
                    time.sleep(0.01)
    return {"loss": 0.5, "checksum": checksum(parameters)}


def main() -> None:
    """Run as a script objective."""
    with open(os.environ["AXSCHED_PARAMS_FILE"], encoding="utf-8") as file:
        parameters = json.load(file)
    metrics = act(parameters)
    with open(os.environ["AXSCHED_RESULT_FILE"], "w", encoding="utf-8") as file:
        json.dump(metrics, file)


if __name__ == "__main__":
    main()
