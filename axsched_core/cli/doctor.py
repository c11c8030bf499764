"""``axsched doctor``: check whether the backends can be used from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import click

from axsched_core.cli.options import RUNNER_OPTIONS
from axsched_core.errors import AxschedError
from axsched_core.jobs import Check
from axsched_core.options import mask
from axsched_core.runners import discovery


def _checks(name: str, options: dict[str, Any]) -> Sequence[Check]:
    """A runner's own checks; if they cannot be made, the reason is one failed check."""
    try:
        loaded = discovery.load(name)
        values = loaded.options(options)
    except AxschedError as error:
        return [Check("runner", False, str(error))]
    try:
        checks = loaded.diagnose(values)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        words = f"they failed themselves: {type(error).__name__}: {error}"
        checks = [Check("checks", False, words)]
    secret = loaded.info.options_class, options, values
    checks = [attrs.evolve(one, message=mask(one.message, *secret)) for one in checks]
    return checks or [Check("runner", True, "can be loaded; it has no checks of its own")]


@click.command()
@click.argument("name", required=False)
@RUNNER_OPTIONS
def doctor(name: str | None, options: dict[str, Any]) -> None:
    """Check whether the runner NAME, or every installed one, can be used from here.

    Exits with status 1 if a check fails.
    """
    if options and name is None:
        raise click.UsageError("--option needs the NAME of the runner that it is for.")
    names = [name] if name else sorted({one.name for one in discovery.installed()})
    if not names:
        click.echo("No runner is installed. For this machine's cores: pip install axsched-joblib")
    failed = 0
    for one in names:
        click.echo(one)
        for check in _checks(one, options):
            mark = click.style("✓", fg="green") if check.ok else click.style("✗", fg="red")
            click.echo(f"  {mark} {check.name}: {check.message}")
            failed += not check.ok
    if failed:
        raise SystemExit(1)
