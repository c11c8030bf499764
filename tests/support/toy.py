"""An optimizer and a runner of the tests' own: no Ax, no processes, every fault on demand."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core.best import Best, Point
from axsched_core.errors import InvalidInput, did_you_mean
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    RunnerContext,
    RunnerInfo,
    SubmitError,
)
from axsched_core.optimizers.base import (
    Asked,
    Candidate,
    Optimizer,
    Outcome,
    OutcomeKind,
    TrialView,
)


class ToyOptimizer(Optimizer):
    """Random search over x and y in [0, 1]; checks its calls like a strict optimizer.

    Args:
        limit: the most running trials; with more it proposes nothing.
        total: the number of trials before it is complete.
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        total: int | None = None,
        objectives: Sequence[str] = ("loss",),
        required: Sequence[str] | None = None,
        initial: int = 0,
    ) -> None:
        self.limit, self.total, self.initial = limit, total, initial
        self.objectives = tuple(objectives)
        self.required = frozenset(required or objectives)
        self.rows: dict[int, dict[str, Any]] = {}
        self.told: list[tuple[int, str]] = []
        self.asks: list[int] = []
        self.random = random.Random(0)
        self.threads: set[int] = set()
        self.problem: Exception | None = None
        self.on_ask: Callable[[int], None] = lambda n: None
        self.on_tell: Callable[[Sequence[Outcome]], None] = lambda outcomes: None

    kind = "toy"
    native = property(lambda self: self)
    experiment = property(lambda self: self)
    name = "toy"
    objective_names = property(lambda self: self.objectives)
    required_metrics = property(lambda self: self.required)
    parameter_names = ("x", "y")

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def ask(self, n: int, *, in_bulk: int = 0) -> Asked:
        self.threads.add(threading.get_ident())
        if not n:
            return Asked()
        self.asks.append(n)
        self.on_ask(n)
        made = []
        while len(made) < n:
            if self.total is not None and len(self.rows) >= self.total:
                return Asked(tuple(made), complete=True, reason="all points were tried")
            running = sum(row["status"] == "RUNNING" for row in self.rows.values())
            if self.limit is not None and running >= self.limit:
                return Asked(tuple(made), reason=f"{running} trials are running")
            index = self._new({"x": self.random.random(), "y": self.random.random()})
            made.append(Candidate(index, self.rows[index]["parameters"]))
        return Asked(tuple(made))

    def _new(self, parameters: Mapping[str, Any]) -> int:
        index = len(self.rows)
        self.rows[index] = {
            "parameters": dict(parameters),
            "status": "RUNNING",
            "metrics": None,
            "metadata": {},
        }
        return index

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        self.threads.add(threading.get_ident())
        self.on_tell(outcomes)
        for outcome in outcomes:
            row = self.rows[outcome.index]
            assert row["status"] == "RUNNING", f"trial {outcome.index} told twice"
            row["status"] = outcome.kind.value
            if outcome.kind is OutcomeKind.COMPLETED:
                row["metrics"] = dict(outcome.metrics)
            self.told.append((outcome.index, outcome.kind.value))

    def may_return(self, indices: Sequence[int]) -> None:
        self.threads.add(threading.get_ident())
        for index in indices:
            if self.rows[index]["status"] == "ABANDONED":
                self.rows[index]["status"] = "FAILED"

    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        for index, data in metadata.items():
            self.rows[index]["metadata"].update(data)

    def attach(self, parameters: Mapping[str, Any]) -> int:
        self.validate(parameters)
        return self._new(parameters)

    def validate(self, parameters: Mapping[str, Any]) -> None:
        for name, value in parameters.items():
            if name not in self.parameter_names:
                raise InvalidInput(
                    f"Unknown parameter {name!r}.{did_you_mean(name, self.parameter_names)}"
                )
            if not 0 <= value <= 1:
                raise InvalidInput(f"Parameter {name!r} is {value}, not in [0, 1].")
        if len(parameters) != 2:
            raise InvalidInput("Both x and y are needed.")

    def trials(self, indices: Sequence[int] | None = None) -> dict[int, TrialView]:
        chosen = self.rows if indices is None else [i for i in indices if i in self.rows]
        return {
            i: TrialView(
                index=i,
                parameters=self.rows[i]["parameters"],
                status=self.rows[i]["status"],
                open=self.rows[i]["status"] == "RUNNING",
                has_data=self.rows[i]["metrics"] is not None,
                metadata=self.rows[i]["metadata"],
            )
            for i in chosen
        }

    def initial_trials_left(self) -> int:
        return max(0, self.initial - len(self.rows))

    def best(self) -> Best:
        done = {i: row for i, row in self.rows.items() if row["metrics"]}
        if not done:
            return Best(why_not_observed="No trial has data.")
        name = self.objectives[0]
        index = min(done, key=lambda i: done[i]["metrics"][name][0])
        value = {name: done[index]["metrics"][name][0]}
        return Best(Point(index, dict(done[index]["parameters"]), value))

    def origins(self, indices: Sequence[int]) -> dict[int, Any]:
        return {index: {"draws": 2} for index in indices}

    def restore(self, index: int, parameters: Mapping[str, Any], origin: Any) -> None:
        for _ in range(origin["draws"] if origin else 0):
            self.random.random()
        super().restore(index, parameters, origin)

    def save(self, path: Path) -> None:
        try:
            path.write_text(json.dumps([self.limit, self.total, list(self.rows.values())]))
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error}.") from error

    def load(self, path: Path) -> ToyOptimizer:
        limit, total, rows = json.loads(path.read_text())
        loaded = ToyOptimizer(limit=limit, total=total)
        loaded.rows = dict(enumerate(rows))
        return loaded

    def count(self, status: str) -> int:
        return sum(row["status"] == status for row in self.rows.values())


class ToyRunner:
    """Jobs are entries of a dict; a test decides the end of each.

    By default a job succeeds as soon as it is submitted, with ``loss = x``.

    Args:
        finish: given a request, returns its result (metrics), a `JobStatus` in which it has
            ended, or None: it runs until `end` is called.
        push: call ``context.wake`` when a job ends.
    """

    def __init__(
        self,
        finish: Callable[[JobRequest], Any] = lambda request: {"loss": request.parameters["x"]},
        *,
        push: bool = True,
        free: Callable[[], int | None] = lambda: None,
        capabilities: Sequence[str] = ("parameters",),
        result_grace: float = 0.0,
    ) -> None:
        self.finish, self.push, self.free = finish, push, free
        self.capabilities, self.result_grace = capabilities, result_grace
        self.requests: dict[str, JobRequest] = {}
        self.statuses: dict[str, JobStatus] = {}
        self.results: dict[str, Any] = {}
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.most_at_once = 0
        self.closed: list[bool] = []
        self.faults: dict[str, list[Exception]] = {}
        self.cancels: list[tuple[str, str]] = []
        self.cannot_cancel = False
        self.submitted = threading.Semaphore(0)
        self.context: RunnerContext | None = None
        self.on_submit: Callable[[JobRequest], Any] = lambda request: None

    def _called(self, hook: str, size: int) -> None:
        self.calls.append((hook, size))
        self.threads.add(threading.get_ident())
        if self.faults.get(hook):
            raise self.faults[hook].pop(0)

    def running(self) -> list[str]:
        return [key for key, status in self.statuses.items() if not status.state.ended]

    def end(self, key: str, outcome: Any) -> None:
        """A job ends, with a result or a status."""
        if isinstance(outcome, JobStatus):
            self.statuses[key] = outcome
        else:
            self.results[key] = outcome
            self.statuses[key] = JobStatus(JobState.SUCCEEDED)
        if self.push and self.context is not None:
            self.context.wake(key)

    def key_of(self, trial_index: int) -> str:
        return [k for k, r in self.requests.items() if r.trial_index == trial_index][-1]

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return RunnerInfo("toy", self.capabilities, "a toy", result_grace=self.result_grace)

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        self.context = context

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        self._called("axsched_submit", len(requests))
        return [self._submit(request) for request in requests]

    def _submit(self, request: JobRequest) -> JobHandle | SubmitError:
        refused = self.on_submit(request)
        if isinstance(refused, SubmitError):
            return refused
        assert request.key not in self.requests or request.key in self.statuses
        self.requests[request.key] = request
        self.statuses[request.key] = JobStatus(JobState.RUNNING)
        self.most_at_once = max(self.most_at_once, len(self.running()))
        outcome = self.finish(request)
        if outcome is not None:
            self.end(request.key, outcome)
        self.submitted.release()
        return JobHandle(request.key, backend_id=f"toy-{len(self.requests)}")

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        self._called("axsched_poll", len(handles))
        return {h.key: self.statuses[h.key] for h in handles if h.key in self.statuses}

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> dict[str, JobResult | NotReady]:
        self._called("axsched_fetch_results", len(handles))
        answers: dict[str, JobResult | NotReady] = {}
        for handle in handles:
            value = self.results.get(handle.key, NotReady("not there"))
            plain = value if isinstance(value, NotReady | JobResult) else JobResult(metrics=value)
            answers[handle.key] = plain
        return answers

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        self._called("axsched_cancel", len(handles))
        for handle in handles:
            self.cancels.append((handle.key, reason))
            if not self.cannot_cancel and not self.statuses[handle.key].state.ended:
                self.end(handle.key, JobStatus(JobState.CANCELLED))
        outcome = CancelOutcome.NOT_POSSIBLE if self.cannot_cancel else CancelOutcome.REQUESTED
        return {handle.key: outcome for handle in handles}

    @hookimpl
    def axsched_capacity(self) -> int | None:
        self._called("axsched_capacity", 0)
        return self.free()

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        self.closed.append(wait)


class Stubborn(ToyRunner):
    """Its jobs do not stop when they are cancelled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.polled = threading.Event()

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        self.polled.set()
        return super().axsched_poll(handles)

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        return {handle.key: CancelOutcome.REQUESTED for handle in handles}
