"""``axsched runners``: which runners are installed."""

from __future__ import annotations

import click

from axsched_core.errors import AxschedError
from axsched_core.runners import discovery


@click.command()
def runners() -> None:
    """List the installed runners, and the broken ones with the reason.

    Exits with status 1 if one is broken.
    """
    found = discovery.installed()
    if not found:
        click.echo("No runner is installed. For this machine's cores: pip install axsched-joblib")
        return
    broken = False
    for one in found:
        try:
            # By name, so that two distributions with the same name are noticed.
            discovery.find(one.name)
            info = discovery.check(one).info
        except AxschedError as error:
            broken = True
            click.echo(f"{one.name:<10} {one}  BROKEN: {error}")
        else:
            takes = ", ".join(sorted(capability.value for capability in info.capabilities))
            click.echo(f"{one.name:<10} {one}  {info.summary}  [{takes}]")
    if broken:
        raise SystemExit(1)
