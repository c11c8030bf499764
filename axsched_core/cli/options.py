"""``--option key=value``: a runner's options in the shell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


def _pair(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{given!r} is not of the form key=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a plain word


def _pairs(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    return dict(map(_pair, given))


RUNNER_OPTIONS = click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="One of the runner_options; the value is JSON or a plain word. May be repeated.",
)
"""Gives a command the argument ``options``: a dict."""
