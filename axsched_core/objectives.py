"""What is evaluated: from the user's function, script or image to what a job carries."""

from __future__ import annotations

import hashlib
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import cloudpickle
from attrs import field, frozen
from attrs.converters import optional as optional_
from attrs.validators import ge, gt, optional

from axsched_core import imports, journal, options
from axsched_core.errors import InvalidInput
from axsched_core.jobs import (
    SECRET_OPTIONS,
    ContainerObjective,
    FunctionObjective,
    Objective,
    Resources,
    ScriptObjective,
)
from axsched_core.worker import axsched_worker


def function_objective(function: Callable[..., Any]) -> bytes:
    """Pickle a function; lambdas, closures and functions of ``__main__`` go by value.

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
    except Exception as error:
        raise InvalidInput(
            f"The objective {_name(function)} cannot be pickled, so it cannot be sent to where it "
            f"is to run: {type(error).__name__}: {error}. Open files, locks, connections and the "
            "like inside the function, not around it."
        ) from error


def bind_function(
    function: Callable[..., Any],
    parameter_names: Sequence[str],
    resources: Mapping[str, Any] | None = None,
    conditional: Collection[str] = (),
) -> FunctionObjective:
    """Decide how a function wants its parameters: one mapping, or by their names.

    Args:
        function: the objective.
        parameter_names: the search space's.
        resources: what each job needs, see `Needs`.
        conditional: those of the names that not every trial has.

    Raises:
        InvalidInput: neither fits its signature; a resource is wrong.
    """
    python = (sys.version_info.major, sys.version_info.minor)
    needs = options.build(Needs, resources, "resources").as_resources()
    keywords = _wants_keywords(function, parameter_names)
    if keywords:
        _check_conditional(function, parameter_names, conditional)
    return FunctionObjective(_name(function), keywords, python, needs)


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
        # f(**anything) and f(x, y): the names fit. f(parameters) with a space that has a
        # parameter of that very name fits too, and is then meant so.
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
    """Refuse f(model, rate=0.1) for a space of model and lr, which would get a mapping as model."""
    first = next(iter(signature.parameters))
    if first not in names:
        return
    arguments = signature.parameters
    unknown = ", ".join(repr(name) for name in names if name not in arguments)
    raise InvalidInput(
        f"The objective {_name(function)}{signature} does not take {unknown}, which the search "
        f"space has beside {first!r}: name all of its parameters, f({', '.join(names)}), add "
        "**others, or take one mapping under another name, f(parameters)."
    )


def _check_conditional(
    function: Callable[..., Any], names: Sequence[str], conditional: Collection[str]
) -> None:
    """Refuse a function that some trials could not be given to, for want of an argument."""
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


def _words(given: str | Sequence[Any]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(map(str, given))


@frozen
class Needs:
    """What each job of an objective needs, where the runner looks at it (`axsched runners` says
    ``resources``)."""

    cpus: int | None = field(default=None, validator=optional(ge(1)))
    """Cores."""
    memory: Any = field(default=None, converter=optional_(options.size))
    """Bytes, or "512M", "4G"."""
    gpus: int | None = field(default=None, validator=optional(ge(0)))
    """GPUs."""

    def as_resources(self) -> Resources:
        """The same as the runner gets it."""
        return Resources(self.cpus, self.memory, self.gpus)


@frozen
class ScriptOptions(Needs):
    """The ``script_options`` of `AxScheduler.set_script_objective`."""

    interpreter: tuple[str, ...] | None = field(default=None, converter=optional_(_words))
    """What runs the script: a program, or a program and its arguments (``["python", "-u"]``).
    None: the script itself where it is executable, this Python for ``.py``, sh for ``.sh``."""
    args: Sequence[Any] = ()
    """Arguments after the script's path."""
    timeout: float | None = field(default=None, validator=optional(gt(0)))
    """Seconds; then the script is ended and its trial fails with TIME_LIMIT."""
    env: Mapping[str, Any] = field(factory=dict, repr=False, metadata={"secret": True})
    """Environment variables to add. Their values are secrets."""
    working_dir: Path | None = field(default=None, converter=optional_(Path))
    """Where it runs; None: in the job's own folder. Several jobs then share it, so the metrics
    must be written to ``$AXSCHED_RESULT_FILE``; a ``result.json`` in it is not read."""


def script_objective(
    script_path: str | os.PathLike[str], script_options: Mapping[str, Any] | None = None
) -> ScriptObjective:
    """Make the objective of a script, of any executable.

    Raises:
        InvalidInput: the script is missing or cannot be run; an option is wrong.
    """
    chosen = options.build(ScriptOptions, script_options, "script_options")
    path = Path(script_path).expanduser().absolute()
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
    if os.access(path, os.X_OK):
        return ()
    by_suffix = {".py": (sys.executable,), ".sh": ("/bin/sh",)}
    if path.suffix in by_suffix:
        return by_suffix[path.suffix]
    raise InvalidInput(
        f"The script {path} is not executable. Either `chmod +x {shlex.quote(str(path))}`, or say "
        "what runs it: script_options={'interpreter': ...}."
    )


def container_objective(
    container_image: str,
    container_command: str | Sequence[str] | None = None,
    container_options: Mapping[str, Any] | None = None,
) -> ContainerObjective:
    """Make the objective of a container image; a command in one string is split as a shell would.

    Raises:
        InvalidInput: the image's name or the command is empty or of a wrong type, or the options
            are no mapping whose keys JSON knows.
    """
    if not isinstance(container_image, str) or not container_image.strip():
        raise InvalidInput(f"The container image must be a name, got {container_image!r}.")
    command: tuple[str, ...] | None = None
    if container_command is not None:
        split = (
            shlex.split(container_command)
            if isinstance(container_command, str)
            else [str(part) for part in container_command]
        )
        if not split:
            raise InvalidInput("The container command is empty; leave it out for the image's own.")
        command = tuple(split)
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


@frozen
class Chosen:
    """The objective that was set, with what only the driver needs of it."""

    objective: Objective
    pickled: bytes | None = field(default=None, repr=False)
    """The function (cloudpickle), for a function objective."""
    source: str = ""
    """A digest of the code (`axsched_core.digest`), by which a change is noticed; "": of a
    container, or of a script that cannot be read."""
    missing: tuple[str, ...] = ()
    """Secrets that were not written down: it can be compared and looked for, but not run."""
    executable: str = field(factory=lambda: sys.executable, repr=False)
    """The Python of the driver that set it."""

    @property
    def function_name(self) -> str | None:
        """The name of the pickle's file in the run directory: another function, another name."""
        if self.pickled is None:
            return None
        return f"function-{hashlib.sha256(self.pickled).hexdigest()[:12]}.pkl"

    def check_complete(self) -> None:
        """Raise `InvalidInput` where it cannot be run for want of its secrets."""
        if self.missing:
            raise InvalidInput(
                f"The objective needs {', '.join(self.missing)}, whose values may be secrets and "
                "so are not written down: set the objective again, with them."
            )

    def to_plain(self) -> dict[str, Any]:
        """What is written down of it: no secrets, only their names."""
        data = {"kind": self.objective.capability.value, **attrs.asdict(self.objective)}
        if isinstance(self.objective, FunctionObjective):
            # It may need modules that lie beside the driver's script, and resume is called
            # elsewhere.
            data |= imports.places(imports.current_directory())
            data["file"] = self.function_name
        elif isinstance(self.objective, ScriptObjective):
            data["env"] = sorted({*data["env"], *self.missing})
            data["executable"] = self.executable
        else:
            data["options"], secrets = options.split(data["options"], SECRET_OPTIONS)
            data["secrets"] = sorted({*secrets, *self.missing})
        return {**data, "source": self.source}

    @staticmethod
    def from_plain(data: Mapping[str, Any], run_dir: Path) -> Chosen:
        """The objective that was written down.

        For a function, `sys.path` begins as it did when the function was set: runners hand it on
        to jobs.

        Raises:
            InvalidInput: the function cannot be read.
        """
        fields = dict(data)
        kind, source = fields.pop("kind"), fields.pop("source")
        if kind == "function":
            sys.path[:] = axsched_worker.import_path(fields, sys.path)
            for name in _PLACES:
                fields.pop(name, None)
            path = run_dir / fields.pop("file")
            try:
                pickled = path.read_bytes()
            except OSError as error:
                raise InvalidInput(f"The objective {path} cannot be read: {error}.") from error
            fields |= {"python": tuple(fields["python"]), "resources": _resources(fields)}
            function = FunctionObjective(**_known(FunctionObjective, fields))
            return Chosen(function, pickled, source)
        if kind == "script":
            missing, executable = tuple(fields.pop("env")), fields.pop("executable", "")
            fields |= {"argv": tuple(fields["argv"]), "resources": _resources(fields)}
            objective = ScriptObjective(**_known(ScriptObjective, fields))
            return Chosen(objective, None, source, missing, executable)
        missing, command = tuple(fields.pop("secrets")), fields["command"]
        fields["command"] = None if command is None else tuple(command)
        return Chosen(ContainerObjective(**_known(ContainerObjective, fields)), missing=missing)

    def differs_from(self, other: Chosen) -> bool:
        """True where results of the two are not results of one experiment."""
        return self._compared() != other._compared()

    def _compared(self) -> dict[str, Any]:
        data: dict[str, Any] = journal.as_written(self.to_plain())
        if data.get("argv") and data["argv"][0] == self.executable:
            del data["argv"][0]
        return {key: value for key, value in data.items() if key not in _NOT_COMPARED}


def _known(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only a newer version knows."""
    mine = attrs.fields_dict(cls)
    return {name: value for name, value in fields.items() if name in mine}


def _resources(fields: Mapping[str, Any]) -> Resources:
    return Resources(**fields.get("resources", {}))


_PLACES = {"sys_path", "sys_path_front", "sys_prefix", "sys_modules"}

_NOT_COMPARED = _PLACES | {"file", "name", "python", "executable", "time_limit", "resources"}
"""They may differ between drivers, the objective be the same; the digest knows a function better
than its name does."""
