"""Which run is meant: a path, a short name, the beginning of one, or the newest run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from axsched_core.cli.errors_shown import in_words
from axsched_core.errors import InvalidInput
from axsched_core.journal import lines

OUTPUTS = Path("outputs")
"""The default of the setting ``job_output_dir``."""
SHORTEST = 4
"""The fewest characters of an id that mean a run."""
NAMED = 10
"""The most runs that an error names."""


class RunDir(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """The run directory that a word means; for a command that changes a run."""

    name = "run"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        with in_words():
            found = run_named(str(value))
        if found.absolute() != Path(value).absolute():
            click.echo(f"Run: {found}", err=True)
        return found

    def get_missing_message(self, param: click.Parameter, ctx: Any = None) -> str | None:
        """A command that changes a run does not choose one."""
        found = _runs(OUTPUTS)
        return f"The newest run here is {found[0]}: name it, if you mean it." if found else None


RUN_DIR = click.argument("run_dir", type=RunDir())
"""Gives a command that changes a run the argument ``run_dir``."""


def run_or_newest(given: str | None) -> Path:
    """The run directory that a word means; without a word, the newest run of `OUTPUTS`.

    Raises:
        InvalidInput: there is none, or there are several.
    """
    if given is not None:
        return run_named(given)
    found = _runs(OUTPUTS)
    if not found:
        raise InvalidInput(
            f"There is no run in ./{OUTPUTS}. Name a run directory (the line 'Outputs: ...' at "
            "the start of a run says where it is)."
        )
    return found[0]


def run_named(given: str) -> Path:
    """The run directory that a word means.

    Args:
        given: a path; or the name, the beginning of the name, or the beginning of the id of
            a run in `OUTPUTS`. With a folder before it, of a run in that folder.

    Raises:
        InvalidInput: there is no such run, or several.
    """
    if not given:
        raise InvalidInput("The name of the run is empty (a variable that is not set?).")
    path = Path(given).expanduser()
    if (path / lines.NAME).is_file():
        return path
    folder, word = (path.parent, path.name) if _has_folder(given) else (OUTPUTS, given)
    found = [one for one in _runs(folder) if _is_meant(one.name, word)]
    whole = [one for one in found if one.name == word]
    if len(whole or found) == 1:
        return (whole or found)[0]
    if found:
        names = "\n".join(f"  {one.name}" for one in found[:NAMED])
        more = f"\n  and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise InvalidInput(
            f"{given!r} is the beginning of {len(found)} runs in {folder}, newest first; type "
            f"more of the name, or of the id at its end:\n{names}{more}"
        )
    if path.is_dir() and (inside := _runs(path)):
        raise InvalidInput(
            f"{path.absolute()} is not a run directory, but holds {len(inside)} of them. The "
            f"newest is {inside[0].name}. To list them: axsched status {given}"
        )
    if path.exists() or _has_folder(given):
        raise InvalidInput(f"{path.absolute()} is not a run directory: it holds no {lines.NAME}.")
    raise InvalidInput(
        f"There is no run {given!r}: no folder has this name, and no run in ./{OUTPUTS} begins "
        "with it."
    )


def _has_folder(given: str) -> bool:
    return "/" in given or given in (".", "..", "~")


def _is_meant(name: str, word: str) -> bool:
    if len(word) < SHORTEST and word.isdigit():
        return False  # `axsched cancel 3`: the index of a trial, and the run was forgotten
    of_id = len(word) >= SHORTEST and name.rpartition("-")[2].startswith(word)
    return name.startswith(word) or of_id


def newest_first(folders: list[Path]) -> list[Path]:
    """Run directories, that which began last first."""
    return sorted(folders, key=lambda one: (_began(one), one.name), reverse=True)


def _runs(folder: Path) -> list[Path]:
    """The run directories in a folder, newest first; none if it cannot be read."""
    try:
        return newest_first([one for one in folder.iterdir() if (one / lines.NAME).is_file()])
    except OSError:
        return []


def _began(run_dir: Path) -> float:
    """When a run began, by its first line, or else by its file's time."""
    path = run_dir / lines.NAME
    try:
        with path.open("rb") as file:
            first = file.readline(lines.FIRST_LIMIT)
        return float(json.loads(first)["t"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0
