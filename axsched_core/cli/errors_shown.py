"""Errors with a clear message become the end of a command, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from axsched_core.cli.plain_text import escaped
from axsched_core.errors import AxschedError, OptimizationInterrupted


@contextmanager
def in_words() -> Iterator[None]:
    """Show errors with a clear message: exit status 1; 130 after an interrupted optimization."""
    try:
        yield
    except BrokenPipeError:
        raise  # `axsched trials | head`: click ends without a word
    except (AxschedError, OSError) as error:
        raise click.ClickException(escaped(str(error), keep="\n\t")) from error
    except OptimizationInterrupted as interrupted:
        click.echo(str(interrupted), err=True)
        raise SystemExit(130) from interrupted
