"""An experiment in a database, its last run, and how a driver goes on with it.

Ax and SQLAlchemy are imported when they are needed.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from axsched_core.errors import InvalidInput
from axsched_core.optimizers.base import Optimizer
from axsched_core.optimizers.last_run import LastRun
from axsched_core.optimizers.not_loaded import NotLoadedOptimizer


def connect(db_settings: Any) -> Any:
    """The `Database` behind Ax's ``DBSettings`` or ``StorageConfig``.

    Raises:
        InvalidInput: it cannot be used, or a package that it needs is missing.
    """
    needed = ("sqlalchemy", "tabulate")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise InvalidInput(
            f"Ax's SQL storage needs {' and '.join(missing)}: pip install 'axsched-core[sql]'"
        )
    from axsched_core.optimizers._sql import Database, settings_of

    return Database(settings_of(db_settings))


def keep_in_database(optimizer: Optimizer, db_settings: Any) -> None:
    """Store an optimizer if the user wants that.

    Args:
        optimizer: an adapter.
        db_settings: the scheduler's setting; None: the client's own, if it has any.

    Raises:
        InvalidInput: there are two databases, or none that can be used.
    """
    if isinstance(optimizer, NotLoadedOptimizer):
        if db_settings is None:
            return
        raise InvalidInput(
            "db_settings needs an optimizer. To go on with one that is stored: "
            "AxScheduler.from_stored_experiment(name, db_settings=..., runner=...)."
        )
    own = getattr(optimizer.native, "_db_settings", None)
    if db_settings is None and (own is None or optimizer.in_database):
        return
    if db_settings is not None and own is not None:
        raise InvalidInput(
            "db_settings: the client has a database of its own (its storage_config, or its "
            "db_settings), which is used; leave db_settings out."
        )
    keep_in = getattr(optimizer, "keep_in", None)
    if keep_in is None:
        raise InvalidInput(
            "db_settings goes with an ax Client, AxClient or Experiment, which Ax can store."
        )
    keep_in(connect(own if db_settings is None else db_settings))


def from_database(name: str, db_settings: Any) -> tuple[Optimizer, LastRun | None]:
    """Load an experiment by its name, as the same kind of optimizer as it was stored from.

    Returns:
        An adapter that continues to store it (a ``Client``, an ``AxClient``, or an ``Experiment``
        if the database does not know the kind), and its last run, if any.

    Raises:
        InvalidInput: the database cannot be used, or holds no such experiment.
    """
    database = connect(db_settings)
    experiment, strategy = database.load(name)
    last = LastRun.of(experiment._properties)
    from axsched_core.optimizers._ax import AxOptimizer
    from axsched_core.optimizers.ax_client import AxClientOptimizer
    from axsched_core.optimizers.client import ClientOptimizer
    from axsched_core.optimizers.experiment import ExperimentOptimizer

    kinds: dict[str, type[AxOptimizer]] = {
        cls.kind: cls for cls in (ClientOptimizer, AxClientOptimizer, ExperimentOptimizer)
    }
    cls = kinds.get(last.kind if last else "Experiment", ExperimentOptimizer)
    adapter = cls.of_stored(database.settings, experiment, strategy, last.seed if last else None)
    adapter.keep_in(database, loaded=True)
    return adapter, last
