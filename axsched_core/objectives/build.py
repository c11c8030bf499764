"""Turn the user's function, script or image into what a job carries."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from axsched_core import options, plain
from axsched_core.config import Needs, ScriptOptions
from axsched_core.errors import InvalidInput, sentence
from axsched_core.jobs import (
    SECRET_OPTIONS,
    ContainerObjective,
    FunctionObjective,
    ScriptObjective,
)


class StaysHere(TypeError):
    """Raised instead of pickling a scheduler."""


def function_objective(function: Callable[..., Any]) -> bytes:
    """Pickle a function; lambdas, closures and functions of ``__main__`` are pickled by value.

    Raises:
        InvalidInput: it is not a plain callable, or refers to something that cannot be pickled.
    """
    if not callable(function):
        raise InvalidInput(
            f"The objective must be a function, got {type(function).__name__} ({function!r:.80}). "
            "For a script use set_script_objective, for an image set_container_objective."
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidInput(
            f"The objective {_name(function)} is an `async def`; give a plain function "
            "(it may call asyncio.run)."
        )
    try:
        return bytes(cloudpickle.dumps(function))
    except StaysHere:
        raise InvalidInput(
            f"The objective {_name(function)} uses the scheduler, which cannot be sent to a job: "
            "take what the objective needs out of the scheduler first, and use only that."
        ) from None
    except Exception as error:
        raise InvalidInput(
            f"The objective {_name(function)} cannot be pickled, so it cannot be sent to where it "
            f"is to run: {type(error).__name__}: {sentence(error)} "
            "Open files, locks, connections and the "
            "like inside the function, not around it."
        ) from error


def bind_function(
    function: Callable[..., Any],
    parameter_names: Sequence[str],
    resources: Mapping[str, Any] | None = None,
    conditional: Collection[str] = (),
    timeout: float | None = None,
) -> FunctionObjective:
    """Decide how a function takes its parameters: as one mapping, or by their names.

    Args:
        function: the objective.
        parameter_names: the search space's.
        resources: what each job needs, see `Needs`.
        conditional: the names that not every trial has.
        timeout: seconds that one evaluation may take.

    Raises:
        InvalidInput: its signature fits none of the two; a resource or the timeout is wrong.
    """
    python = (sys.version_info.major, sys.version_info.minor)
    needs = options.build(Needs, resources, "resources").as_resources()
    keywords = _wants_keywords(function, parameter_names)
    if keywords:
        _check_conditional(function, parameter_names, conditional)
    seconds = plain.number(timeout)
    if timeout is not None and not (seconds is not None and seconds > 0):
        raise InvalidInput(f"timeout must be a positive number of seconds, got {timeout!r}.")
    return FunctionObjective(_name(function), keywords, python, needs, seconds)


def _wants_keywords(function: Callable[..., Any], names: Sequence[str]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return False
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError:
        pass
    else:
        # f(**anything) and f(x, y): the names fit. f(parameters) fits too if the space has a
        # parameter of exactly this name; then this parameter is meant.
        return True
    try:
        signature.bind({})
    except TypeError:
        pass
    else:
        _check_mapping_is_meant(function, signature, names)
        return False
    raise InvalidInput(
        f"The objective {_name(function)}{signature} fits neither way of calling it: with one "
        f"mapping, f(parameters), or by the search space's names, f({', '.join(names)})."
    )


def _check_mapping_is_meant(
    function: Callable[..., Any], signature: inspect.Signature, names: Sequence[str]
) -> None:
    """Refuse f(model, rate=0.1) for a space of model and lr: model would be the mapping."""
    first = next(iter(signature.parameters))
    if first not in names:
        return
    arguments = signature.parameters
    if arguments[first].kind is inspect.Parameter.POSITIONAL_ONLY:
        raise InvalidInput(
            f"The objective {_name(function)}{signature} takes {first!r} by position only, but "
            f"parameters are passed by name, f({', '.join(names)}), or as one mapping under "
            "another name, f(parameters)."
        )
    unknown = ", ".join(repr(name) for name in names if name not in arguments)
    raise InvalidInput(
        f"The objective {_name(function)}{signature} does not take {unknown}, which the search "
        f"space also has, with {first!r}: name all of its parameters, f({', '.join(names)}), add "
        "**others, or take one mapping under another name, f(parameters)."
    )


def _check_conditional(
    function: Callable[..., Any], names: Sequence[str], conditional: Collection[str]
) -> None:
    """Refuse a function that some trials could not call, because an argument is missing."""
    arguments = inspect.signature(function).parameters.values()
    needed = [
        argument.name
        for argument in arguments
        if argument.name in conditional
        and argument.default is argument.empty
        and argument.kind is not argument.VAR_KEYWORD
    ]
    if needed:
        words = ", ".join(needed)
        defaults = ", ".join(f"{name}=None" for name in needed)
        raise InvalidInput(
            f"The objective {_name(function)} takes {words} without a default, but the search "
            f"space is hierarchical, and not every trial has {words}: give a default "
            f"({defaults}), or take one mapping, f(parameters)."
        )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def script_objective(
    script_path: str | os.PathLike[str], script_options: Mapping[str, Any] | None = None
) -> ScriptObjective:
    """Make the objective of a script or any other executable.

    Raises:
        InvalidInput: the script is missing or cannot be run; an option is wrong.
    """
    chosen = options.build(ScriptOptions, script_options, "script_options")
    path = options.path(script_path, "script_path").expanduser().absolute()
    if not path.exists():
        raise InvalidInput(f"The script {path} does not exist.")
    if not path.is_file():
        raise InvalidInput(f"The script {path} is not a file.")
    working_dir = chosen.working_dir
    if working_dir is not None and not Path(working_dir).is_dir():
        raise InvalidInput(f"script_options: 'working_dir' {working_dir} is not a folder.")
    return ScriptObjective(
        argv=(*_interpreter(path, chosen.interpreter), str(path), *map(str, chosen.args)),
        env={str(name): str(value) for name, value in chosen.env.items()},
        working_dir=str(Path(working_dir).absolute()) if working_dir else None,
        time_limit=chosen.timeout,
        script=str(path),
        resources=chosen.as_resources(),
    )


def _interpreter(path: Path, given: tuple[str, ...] | None) -> tuple[str, ...]:
    if given is not None:
        if not given or not given[0]:
            raise InvalidInput("script_options: 'interpreter' is empty.")
        return given
    own = _shebang(path)
    if os.access(path, os.X_OK):
        return ()
    by_suffix = {".py": (sys.executable,), ".sh": ("/bin/sh",)}
    if own and not (path.suffix == ".py" and _PYTHON.search(" ".join(own))):
        return own
    if path.suffix in by_suffix:
        return by_suffix[path.suffix]
    raise InvalidInput(
        f"The script {path} is not executable. Either `chmod +x {shlex.quote(str(path))}`, or say "
        "what runs it: script_options={'interpreter': ...}."
    )


_PYTHON = re.compile(r"(^|[/ ])python[\d.]*\b")
"""A ``#!`` line that names any Python; for a ``.py`` file it means the driver's, with its
packages."""


def _shebang(path: Path) -> tuple[str, ...]:
    """What a script's ``#!`` line names, as the system reads it: a program and one argument.

    Raises:
        InvalidInput: the line ends as on Windows, so no system finds the program.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(1024)
    except OSError:  # executable, but not readable
        return ()
    if not line.startswith(b"#!"):
        return ()
    if line.endswith(b"\r\n"):
        raise InvalidInput(
            f"The lines of the script {path} end as on Windows (CRLF), so its #! line names a "
            f"program that does not exist. Convert it: sed -i 's/\\r$//' {shlex.quote(str(path))}"
        )
    return tuple(os.fsdecode(line[2:]).strip().split(None, 1))


def container_objective(
    container_image: str,
    container_command: str | Sequence[str] | None = None,
    container_options: Mapping[str, Any] | None = None,
) -> ContainerObjective:
    """Make the objective of a container image; a command in one string is split as by a shell.

    Raises:
        InvalidInput: the image's name or the command is empty or has a wrong type, or the options
            are not a mapping with keys that JSON allows.
    """
    if not isinstance(container_image, str) or not container_image.strip():
        raise InvalidInput(f"The container image must be a name, got {container_image!r}.")
    command = None if container_command is None else _command(container_command)
    if not isinstance(container_options, Mapping | None):
        # Not the value itself: it may be secret.
        raise InvalidInput(
            f"container_options: expected a mapping, got {type(container_options).__name__}."
        )
    chosen = dict(container_options or {})
    for name, value in chosen.items():
        if not isinstance(name, str):
            raise InvalidInput(f"container_options: the key {name!r} is not a string.")
        if name not in SECRET_OPTIONS:
            _check_keys(value, name)
    return ContainerObjective(container_image, command, chosen)


def _command(given: Any) -> tuple[str, ...]:
    """A container's command as a list."""
    if isinstance(given, str):
        try:
            words = shlex.split(given)
        except ValueError as error:  # a quote that is not closed
            raise InvalidInput(
                f"The container command {given!r} cannot be split into words: {sentence(error)} "
                "Give a list "
                "of words, or quote it as for a shell."
            ) from error
    elif isinstance(given, Sequence) and not isinstance(given, bytes):
        words = [str(part) for part in given]
    else:
        raise InvalidInput(
            f"The container command must be a string or a list, got {type(given).__name__}."
        )
    if not words:
        raise InvalidInput("The container command is empty; leave it out for the image's own.")
    return tuple(words)


def _check_keys(value: Any, where: str) -> None:
    """Refuse keys with which the journal cannot be written."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str | int | float | None):
                raise InvalidInput(
                    f"container_options: {where!r} has the key {key!r}, a {type(key).__name__}; "
                    f"give a string, as {str(key)!r}."
                )
            _check_keys(inner, where)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner, where)
