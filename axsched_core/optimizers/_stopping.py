"""Ax's strategies that stop trials early, or the whole optimization."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ax.exceptions.storage import JSONEncodeError
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json
from ax.storage.json_store.registry import (
    CORE_CLASS_DECODER_REGISTRY,
    CORE_CLASS_ENCODER_REGISTRY,
    CORE_DECODER_REGISTRY,
    CORE_ENCODER_REGISTRY,
)

from axsched_core.errors import InvalidInput
from axsched_core.optimizers.base import Optimizer

_log = logging.getLogger("axsched")

EARLY, OVERALL = "early_stopping_strategy", "global_stopping_strategy"
_ASKED: Mapping[str, str] = {
    EARLY: "should_stop_trials_early",
    OVERALL: "should_stop_optimization",
}
"""Strategy -> the method that Ax and we call."""


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
        return {int(index): str(why or type(strategy).__name__) for index, why in found.items()}

    @property
    def _current_node(self) -> Any:
        """The generation strategy's current node; None if no strategy was chosen yet."""

    def why_over(self) -> str:
        """Why the whole optimization should stop, in the strategy's words; "": it goes on."""
        strategy = self.strategy_for(OVERALL)
        if strategy is None:
            return ""
        stop, why = strategy.should_stop_optimization(experiment=self.experiment)
        return str(why or type(strategy).__name__) if stop else ""

    # ---- in the journal ------------------------------------------------------------------------

    def stopping_to_plain(self) -> dict[str, Any]:
        """The strategies as JSON, in Ax's own encoding; only the class's name if Ax has none."""
        found = {}
        for which in _ASKED:
            if (strategy := self.strategy_for(which)) is not None:
                try:
                    plain = object_to_json(
                        strategy,
                        encoder_registry=CORE_ENCODER_REGISTRY,
                        class_encoder_registry=CORE_CLASS_ENCODER_REGISTRY,
                    )
                except JSONEncodeError:
                    plain = {"not_written": type(strategy).__qualname__}
                found[which] = plain
        return found

    def go_on_with(self, described: Mapping[str, Any]) -> None:
        """Take the strategies of the driver before, unless there are others already.

        Args:
            described: what `describe` returned then.
        """
        for which, plain in (described.get("stopping") or {}).items():
            if which not in _ASKED or self.strategy_for(which) is not None:
                continue
            if name := plain.get("not_written"):
                _log.warning(
                    "The run goes on without its %s: %s is a class that Ax cannot write. Pass it "
                    "again: AxScheduler.resume(run_dir, %s=...).",
                    which,
                    name,
                    which,
                )
                continue
            strategy = object_from_json(
                plain,
                decoder_registry=CORE_DECODER_REGISTRY,
                class_decoder_registry=CORE_CLASS_DECODER_REGISTRY,
            )
            self.stop_with(**{"early" if which == EARLY else "overall": strategy})
