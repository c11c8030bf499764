"""Ax's strategies that stop trials early, or the whole optimization."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from axsched_core.errors import InvalidInput
from axsched_core.optimizers.base import Optimizer

_log = logging.getLogger("axsched")

EARLY, OVERALL = "early_stopping_strategy", "global_stopping_strategy"
_ASKED: Mapping[str, str] = {
    EARLY: "should_stop_trials_early",
    OVERALL: "should_stop_optimization",
}
"""Strategy -> the method that Ax and we call."""


_OF_AX = ("ax.early_stopping.", "ax.global_stopping.")


class Stopping(Optimizer):
    """The part of an adapter that asks Ax's stopping strategies.

    A client may hold them itself: then it is the only place where they are.
    """

    _native: Any
    _held: ClassVar[Mapping[str, str]] = {}
    """Strategy -> the native object's attribute that holds it, if it has one."""

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}

    def strategy_for(self, which: str) -> Any:
        """One of the two strategies; None if there is none."""
        if which in self._held:
            return getattr(self._native, self._held[which], None)
        return self._own.get(which)

    def stop_with(self, early: Any = None, overall: Any = None) -> None:
        for which, strategy in ((EARLY, early), (OVERALL, overall)):
            if strategy is None:
                continue
            if isinstance(strategy, type) or not callable(getattr(strategy, _ASKED[which], None)):
                raise InvalidInput(
                    f"{which} must be one of Ax's strategies, or an object with a method "
                    f"{_ASKED[which]}, not {strategy!r:.80}."
                )
            if which in self._held:
                setattr(self._native, self._held[which], strategy)
            else:
                self._own[which] = strategy

    def to_stop(self, indices: Sequence[int]) -> dict[int, str]:
        strategy = self.strategy_for(EARLY)
        if strategy is None:
            return {}
        found = strategy.should_stop_trials_early(
            trial_indices=set(indices), experiment=self.experiment, current_node=self._current_node
        )
        return {int(index): _words(why, strategy) for index, why in found.items()}

    @property
    def _current_node(self) -> Any:
        """The generation strategy's current node; None if no strategy was chosen yet."""

    def why_over(self) -> str:
        """Why the whole optimization should stop, in the strategy's words; "": it goes on."""
        strategy = self.strategy_for(OVERALL)
        if strategy is None:
            return ""
        stop, why = strategy.should_stop_optimization(experiment=self.experiment)
        return _words(why, strategy) if stop else ""

    # ---- in the journal ------------------------------------------------------------------------

    def stopping_to_plain(self) -> dict[str, Any]:
        """The strategies as JSON; of one that cannot be written only its class's name."""
        found = {}
        for which in _ASKED:
            if (strategy := self.strategy_for(which)) is not None:
                try:
                    found[which] = _to_plain(strategy)
                except _NotPlain:
                    found[which] = {"not_written": type(strategy).__qualname__}
        return found

    def go_on_with(self, described: Mapping[str, Any]) -> None:
        for which, plain in (described.get("stopping") or {}).items():
            if which not in _ASKED or self.strategy_for(which) is not None:
                continue
            if name := plain.get("not_written"):
                _log.warning(
                    "The run goes on without its %s: a %s cannot be written down. Pass it again: "
                    "AxScheduler.resume(run_dir, %s=...).",
                    which,
                    name,
                    which,
                )
                continue
            self.stop_with(**{"early" if which == EARLY else "overall": _from_plain(plain)})


def _words(why: str | None, strategy: Any) -> str:
    """The first line of a reason (Ax's strategies give several), or the strategy's name."""
    lines = str(why or "").strip().splitlines()
    return lines[0].strip() if lines else type(strategy).__name__


class _NotPlain(Exception):
    """It is no strategy of Ax's, or holds what JSON cannot."""


def _to_plain(value: Any) -> Any:
    """A strategy, or what one holds, as JSON. (Ax's own encoder leaves out some settings.)"""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_plain(item) for item in value]
    if not type(value).__module__.startswith(_OF_AX):
        raise _NotPlain
    # What begins with an underscore, and each dict, is only remembered from earlier questions.
    held = vars(value).items()
    return {
        "class": f"{type(value).__module__}:{type(value).__qualname__}",
        "settings": {
            name: None if name.startswith("_") or isinstance(item, dict) else _to_plain(item)
            for name, item in held
        },
        "dicts": [name for name, item in held if isinstance(item, dict)],
    }


def _from_plain(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_from_plain(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    module, _, name = plain["class"].partition(":")
    if not module.startswith(_OF_AX):
        raise InvalidInput(f"{plain['class']} is no stopping strategy of Ax.")
    kind = getattr(importlib.import_module(module), name)
    strategy = kind.__new__(kind)
    vars(strategy).update({key: _from_plain(item) for key, item in plain["settings"].items()})
    vars(strategy).update({key: {} for key in plain["dicts"]})
    return strategy
