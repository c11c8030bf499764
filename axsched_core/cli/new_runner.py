"""``axsched new-runner NAME``: copy the runner template under a new name."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from axsched_core.runners import discovery

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "cli" / "runner_template", PACKAGE.parent / "examples" / "runner_template")
"""The places of the template: in an installed wheel, and in a checkout."""

LEFT_OUT = re.compile(r"__pycache__|\..+|build|dist|.+\.egg-info|.+\.pyc")
"""Files that tools leave in a folder and that do not belong to the template."""

TAKEN = ("core",)
"""``axsched-core`` is not a runner."""


@click.command("new-runner")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder to write it into; made if it is missing. Default: the current one.",
)
def new_runner(name: str, into: Path) -> None:
    """Write a new runner: the distribution axsched-NAME.

    It is a copy of the template for you to change: a complete runner for a laboratory robot's
    job queue, with tests that pass.
    """
    if problem := name_problem(name):
        raise click.ClickException(problem)
    target = into / f"axsched-{name}"
    try:
        files = write_copy(name, target)
    except FileExistsError:
        raise click.ClickException(
            f"{target} is there already, and is not changed. Choose another name, or another "
            "folder with --into."
        ) from None
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error}") from error
    click.echo(f"The distribution axsched-{name}, with a runner named {name!r}, is in {target}:")
    for file in files:
        click.echo(f"  {file.as_posix()}")
    click.echo("Next:")
    click.echo(f"  cd {shlex.quote(str(target))}")
    click.echo('  python -m pip install -e ".[test]"')
    click.echo("  python -m pytest")


def name_problem(name: str) -> str | None:
    """Say why a runner cannot have this name; None: it can."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        words = (
            f"{name!r} cannot be the name of a runner: it must be lower-case letters and digits, "
            "begin with a letter, and have only single hyphens in between."
        )
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        return f"{words} Try {better!r}." if better else words
    if name.startswith("axsched-"):
        short = name.removeprefix("axsched-")
        return f"Leave out 'axsched-', which is put before the name: axsched new-runner {short}"
    distribution = f"axsched-{name}"
    for one in discovery.installed():
        if one.name == name:
            return f"There is a runner named {name!r} already: {one} is installed. Choose another."
    if name in TAKEN or _is_installed(distribution):
        return f"There is a distribution named {distribution} already. Choose another name."
    return None


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def template() -> Path:
    """The folder of the template."""
    for place in PLACES:
        if (place / "pyproject.toml").is_file():
            return place
    raise click.ClickException(
        "The template is not there; this installation of axsched-core is not whole. Reinstall it: "
        "pip install --force-reinstall --no-deps axsched-core"
    )


def template_files(folder: Path) -> Iterator[Path]:
    """The files of the template, relative to it, without files that tools have left there."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not LEFT_OUT.fullmatch(one))
        for file in sorted(files):
            if not LEFT_OUT.fullmatch(file):
                yield (Path(place) / file).relative_to(folder)


def write_copy(name: str, target: Path) -> list[Path]:
    """Write the template under another name; return what was written, relative to ``target``.

    Raises:
        FileExistsError: ``target`` exists already, as a file or anything else.
        OSError: it cannot be written; then nothing is left behind.
    """
    if os.path.lexists(target):
        raise FileExistsError(target)
    source = template()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written next to it and renamed, so that there is never half a copy.
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    beside.mkdir()
    try:
        written = []
        for file in template_files(source):
            copy = Path(rename(file.as_posix(), name))
            (beside / copy).parent.mkdir(parents=True, exist_ok=True)
            text = (source / file).read_text(encoding="utf-8")
            (beside / copy).write_text(rename(text, name), encoding="utf-8")
            written.append(copy)
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return sorted(written)


def rename(text: str, name: str) -> str:
    """Replace the template's name by the new one in names; the robot in prose stays a robot."""
    classes = "".join(part.capitalize() for part in name.split("-"))
    for pattern, new in (
        (r"axsched-robot\b", f"axsched-{name}"),
        (r"axsched_robot\b", f"axsched_{name.replace('-', '_')}"),
        (r"\bRobot(?=[A-Z])", classes),  # RobotRunner, RobotOptions
        (r'"robot"', f'"{name}"'),
        (r"(?m)^robot(?= = )", name),  # the entry point
    ):
        text = re.sub(pattern, new, text)
    return text
