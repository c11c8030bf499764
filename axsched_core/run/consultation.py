"""One conversation with the optimizer, on the thread that owns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from axsched_core.jobs import Report
from axsched_core.optimizers.base import Asked, Optimizer, Outcome
from axsched_core.run.budget import Wish


@frozen
class Consultation:
    """The result of the conversation."""

    closed: Mapping[int, str] = field(factory=dict)
    """Watched trials that the user has ended since: index -> the optimizer's status text."""
    told: bool = False
    """True when the outcomes and annotations were taken."""
    stops: Mapping[int, str] = field(factory=dict)
    """Trials that should be stopped early: index -> why."""
    asked: Asked = field(factory=Asked)
    origins: Mapping[int, Any] = field(factory=dict)
    """The data that the optimizer needs to make these candidates again, by index."""
    held_open: tuple[int, ...] = ()
    """Trials that the optimizer waits for; filled only if nothing was proposed."""
    error: Exception | None = None
    failed_to: str = ""
    """What the optimizer could not do, with ``error``."""


def consult(
    optimizer: Optimizer,
    *,
    watched: Sequence[int],
    outcomes: Sequence[Outcome],
    reports: Mapping[int, Sequence[Report]],
    judged: Sequence[int],
    annotations: Mapping[int, Mapping[str, Any]],
    wish: Wish,
    alone: bool,
    origins: bool,
) -> Consultation:
    """Check what the user has done since, tell the outcomes, ask for candidates.

    Args:
        optimizer: the one that this thread owns.
        watched: trials in progress.
        outcomes: what to tell; outcomes of trials that the user has ended are not told.
        reports: intermediate results to tell, by trial.
        judged: running trials that may be stopped early.
        annotations: data to add to trials.
        wish: how many candidates to ask for.
        origins: True if the candidates' origins are needed.
        alone: True if no trial in progress could help the optimizer to continue.
    """
    views = optimizer.trials(watched) if watched else {}
    closed = {index: view.status for index, view in views.items() if not view.open}
    try:
        if news := {i: found for i, found in reports.items() if i not in closed}:
            optimizer.tell_intermediate(news)
        optimizer.tell([outcome for outcome in outcomes if outcome.index not in closed])
        optimizer.annotate(annotations)
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        return Consultation(closed, error=error, failed_to="could not take the results")
    optimizer.store()  # also the last candidates: the journal has them now
    stops: Mapping[int, str] = {}
    try:
        if (news or outcomes) and (open_ := [i for i in judged if i not in closed]):
            stops = optimizer.to_stop(open_)
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        return Consultation(
            closed, told=True, error=error, failed_to="could not say which trials to stop early"
        )
    try:
        asked = optimizer.ask(wish.n, in_bulk=wish.in_bulk) if wish else Asked()
        made = [candidate.index for candidate in asked.candidates]
        from_where = optimizer.origins(made) if made and origins else {}
    except Exception as error:  # noqa: BLE001 - raised in the caller's thread
        return Consultation(
            closed,
            told=True,
            stops=stops,
            error=error,
            failed_to="could not generate a candidate",
        )
    held: tuple[int, ...] = ()
    if wish.n and alone and not asked.candidates and not asked.complete:
        held = tuple(index for index, view in optimizer.trials().items() if view.open)
    return Consultation(
        closed, told=True, stops=stops, asked=asked, origins=from_where, held_open=held
    )
