"""The ``axsched`` command."""

from __future__ import annotations

import importlib.metadata

import click

from axsched_core.cli.clean import clean
from axsched_core.cli.doctor import doctor
from axsched_core.cli.new_runner import new_runner
from axsched_core.cli.runs import cancel, resume, salvage
from axsched_core.errors import AxschedError
from axsched_core.runners import discovery


@click.group()
@click.version_option(importlib.metadata.version("axsched-core"), prog_name="axsched")
def main() -> None:
    """Run an Ax optimization on the machines that you have."""


@main.command()
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


main.add_command(cancel)
main.add_command(doctor)
main.add_command(clean)
main.add_command(new_runner)
main.add_command(resume)
main.add_command(salvage)


if __name__ == "__main__":
    main()
