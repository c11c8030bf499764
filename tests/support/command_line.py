"""The command line in this process, and runs for it to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
from click.testing import CliRunner

from axsched_core.cli.main import main
from axsched_core.journal import lines


def axsched(*arguments: object) -> click.testing.Result:
    """Call a command; its output is no terminal."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def document(*arguments: object) -> Any:
    """What a command prints with ``--json``."""
    result = axsched(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=_no_constant)


def _no_constant(word: str) -> Any:
    raise AssertionError(f"{word} is not JSON")


def write_journal(run_dir: Path, *given: dict[str, Any]) -> Path:
    """A journal of these lines, after the first one, of a run that minimizes "loss"."""
    run_dir.mkdir(parents=True, exist_ok=True)
    goal = {"name": "loss", "minimize": True, "weights": {"loss": 1.0}}
    first = {"k": "run", "format": 1, "t": 5.0, "run_id": "0123456789", "runner": "toy"}
    whole = [{**first, "optimized": {"objectives": [goal]}}, *given]
    (run_dir / lines.NAME).write_text("".join(json.dumps(line) + "\n" for line in whole))
    return run_dir


def job(index: int, number: int = 1) -> list[dict[str, Any]]:
    """The lines of a job that the backend has and that runs."""
    key = {"k": "key", "t": 7.0, "i": index, "n": number, "key": f"0123456789-{index}-{number}"}
    handle = {"k": "handle", "t": 7.5, "i": index, "id": f"job {index}"}
    running = {"k": "running", "t": 8.0, "i": index, "n": number, "host": "node-1", "start": 8.0}
    return [{**key, "lane": "toy"}, handle, running]


def trial(index: int, **parameters: Any) -> dict[str, Any]:
    return {"k": "trial", "t": 6.0, "i": index, "p": parameters}


def success(index: int, t: float = 20.0, **means: float) -> list[dict[str, Any]]:
    """The lines of a job that ends well."""
    ended = {"k": "attempt", "t": t, "i": index, "n": 1, "state": "SUCCEEDED", "exit": 0}
    results = {name: [mean, None] for name, mean in means.items()}
    outcome = {"k": "outcome", "t": t, "i": index, "state": "SUCCEEDED", "cause": None}
    return [ended, {**outcome, "message": "", "results": results}]


def failure(index: int, cause: str, message: str, t: float = 30.0) -> list[dict[str, Any]]:
    """The lines of a job that fails for good."""
    said = {"t": t, "i": index, "state": "FAILED", "cause": cause, "message": message}
    return [{"k": "attempt", "n": 1, "exit": 3, **said}, {"k": "outcome", **said}]
