"""The objective that was set, as the driver and the journal know it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from axsched_core import imports, options, plain
from axsched_core.errors import InvalidInput, sentence
from axsched_core.jobs import (
    SECRET_OPTIONS,
    ContainerObjective,
    FunctionObjective,
    Objective,
    Resources,
    ScriptObjective,
)
from axsched_core.worker import axsched_worker


@frozen
class ObjectiveSpec:
    """The objective that was set, with the data that only the driver needs."""

    objective: Objective
    pickled: bytes | None = field(default=None, repr=False)
    """The function (cloudpickle), for a function objective."""
    source: str = ""
    """A digest of the code (`fingerprint`) that shows a change; "" for a container, or for
    a script that cannot be read."""
    missing: tuple[str, ...] = ()
    """Secrets that were not saved: it can be compared and looked for, but cannot run."""
    executable: str = field(factory=lambda: sys.executable, repr=False)
    """The Python of the driver that set it."""

    @property
    def function_name(self) -> str | None:
        """The name of the pickle's file in the run directory; each function has its own name."""
        if self.pickled is None:
            return None
        return f"function-{hashlib.sha256(self.pickled).hexdigest()[:12]}.pkl"

    def check_complete(self) -> None:
        """Raise `InvalidInput` if it cannot run because its secrets are missing."""
        if self.missing:
            raise InvalidInput(
                f"The objective needs {', '.join(self.missing)}, whose values may be secrets and "
                "so are not written down: set the objective again, with them."
            )

    def to_plain(self) -> dict[str, Any]:
        """The data that is saved: no secrets, only their names."""
        data = {"kind": self.objective.capability.value, **attrs.asdict(self.objective)}
        if isinstance(self.objective, FunctionObjective):
            # It may need modules next to the driver's script, and resume may be called from
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
    def from_plain(data: Mapping[str, Any], run_dir: Path) -> ObjectiveSpec:
        """The objective that was saved.

        For a function, `sys.path` then begins as it did when the function was set: runners pass it
        on to jobs.

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
                raise InvalidInput(
                    f"The objective {path} cannot be read: {sentence(error)}"
                ) from error
            fields |= {"python": tuple(fields["python"]), "resources": _resources(fields)}
            function = FunctionObjective(**_known(FunctionObjective, fields))
            return ObjectiveSpec(function, pickled, source)
        if kind == "script":
            missing, executable = tuple(fields.pop("env")), fields.pop("executable", "")
            fields |= {"argv": tuple(fields["argv"]), "resources": _resources(fields)}
            objective = ScriptObjective(**_known(ScriptObjective, fields))
            return ObjectiveSpec(objective, None, source, missing, executable)
        missing, command = tuple(fields.pop("secrets")), fields["command"]
        fields["command"] = None if command is None else tuple(command)
        return ObjectiveSpec(
            ContainerObjective(**_known(ContainerObjective, fields)), missing=missing
        )

    def differs_from(self, other: ObjectiveSpec) -> bool:
        """True if results of the two do not belong to one experiment."""
        return self._compared() != other._compared()

    def _compared(self) -> dict[str, Any]:
        data: dict[str, Any] = plain.as_written(self.to_plain())
        if data.get("argv") and data["argv"][0] == self.executable:
            del data["argv"][0]
        return {key: value for key, value in data.items() if key not in _NOT_COMPARED}


def _known(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that only a newer version knows."""
    mine = attrs.fields_dict(cls)
    return {name: value for name, value in fields.items() if name in mine}


def _resources(fields: Mapping[str, Any]) -> Resources:
    return Resources(**fields.get("resources", {}))


_PLACES = {"sys_path", "sys_path_front", "sys_prefix", "sys_modules"}


_NOT_COMPARED = _PLACES | {"file", "name", "python", "executable", "time_limit", "resources"}
"""They may differ between drivers although the objective is the same; the digest identifies a
function better than its name."""
