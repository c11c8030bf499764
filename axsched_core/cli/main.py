"""The ``axsched`` command. It imports a subcommand only when that is used: see `COMMANDS`."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

import click

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Look at a run": {
        "status": ("status", "Show how a run stands, or list the runs of a folder."),
        "watch": ("watch", "Show a run while it goes on."),
        "trials": ("trials", "List the trials of a run."),
        "show": ("show", "Show everything about one trial."),
        "logs": ("logs", "Print what a trial's job has printed."),
    },
    "Change a run": {
        "resume": ("runs", "Continue a run after its driver has ended, and finish it."),
        "cancel": ("runs", "Cancel a run, or some of its trials."),
        "clean": ("clean", "Remove what a run has left on its backend."),
        "salvage": ("runs", "Repair a damaged journal."),
    },
    "Runners": {
        "runners": ("runners", "List the installed runners."),
        "doctor": ("doctor", "Check whether the backends can be used from here."),
        "new-runner": ("new_runner", "Write a new runner from the template."),
    },
}
"""Heading -> command -> its module in this folder, and its line in ``axsched --help``."""

_MODULES = {name: module for part in COMMANDS.values() for name, (module, _) in part.items()}


class Commands(click.Group):
    """The commands of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"axsched_core.cli.{_MODULES[cmd_name]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does, and name the closest command."""
        if args and args[0] not in _MODULES and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], _MODULES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing any command."""
        for heading, part in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, (_, text) in part.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version  # it costs as much as click

        click.echo(f"axsched, version {version('axsched-core')}")
        ctx.exit()


@click.group(cls=Commands)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Run an Ax optimization on the machines that you have."""


if __name__ == "__main__":
    main()
