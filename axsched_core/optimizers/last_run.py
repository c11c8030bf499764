"""The run that a stored experiment was in last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen


@frozen
class LastRun:
    """What the database knows of axsched: the experiment's ``properties["axsched"]``."""

    kind: str
    """`Optimizer.kind`."""
    seed: int | None
    """The client's random seed, which Ax does not store."""
    run_dir: str = ""
    run_id: str = ""
    host: str = ""

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> LastRun | None:
        """Read it; None if the experiment was stored without axsched."""
        known = {field.name for field in attrs.fields(cls)}
        data = properties.get("axsched")
        if not isinstance(data, Mapping) or not {"kind", "seed"} <= set(data):
            return None
        return cls(**{name: value for name, value in data.items() if name in known})
