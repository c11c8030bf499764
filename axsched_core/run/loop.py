"""The engine's thread: its messages, how long it sleeps, how Ctrl-C reaches it, how a call ends.

It knows nothing about trials. The `Work` that it gets says what a turn does.

Three threads take part. The *caller's* waits in `Loop.perform`. The *engine's* is this one: it
takes all decisions and makes all calls to the runner, so that a backend that blocks never stalls
Ctrl-C. Only the *optimizer thread* (`Loop.hand_over`) uses the optimizer, and does one thing at a
time. Between two calls of `perform` all of them are idle; if a call has left the engine's thread in
the middle of its work, the next one waits for it (`Loop.rest`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Protocol, TypeVar

from axsched_core.run import termination, timing
from axsched_core.run.threads import Actor, patiently

log = logging.getLogger("axsched")
T = TypeVar("T")


class Work(Protocol):
    """What a `Loop` does, turn after turn; all on its thread, except `say_interrupted`."""

    def begin(self, first: Callable[[], None], *, one_turn: bool) -> None:
        """A call begins with ``first``. ``one_turn``: it does not wait for anything."""

    def turn(self) -> None:
        """Do everything that is possible now."""

    def due(self, now: float) -> float | None:
        """When there is something to do without a letter (`time.monotonic` s); None: never."""

    def interrupt(self, *, hurry: bool) -> None:
        """Ctrl-C was pressed; ``hurry``: a second time."""

    def say_interrupted(self) -> None:
        """Tell the user what happens now because of Ctrl-C; on any thread."""

    def failed(self) -> None:
        """The call will end with an error: begin nothing more."""

    @property
    def at_rest(self) -> bool:
        """True if nothing is in progress."""

    @property
    def stopped(self) -> bool:
        """True if the call was stopped: it ends as soon as it is `at_rest`."""

    @property
    def settled(self) -> bool:
        """True if no work waits to be handed over."""

    def show(self) -> None:
        """Tell observers what has happened."""

    def end(self) -> None:
        """A call ends. The caller's program may now be idle for hours, and die."""


class Loop:
    """One thread that does `Work` while a call waits for it.

    Args:
        work: what is done.
        name: the thread's.
    """

    def __init__(self, work: Work, name: str) -> None:
        self.failure: BaseException | None = None
        """What the current call will raise. `Work` may set it."""
        self.consulting = False
        """True while work that was handed over is not finished."""
        self.left_behind = False
        """True if the last call did not wait for the work that was running."""
        self.pressed = False
        """True once Ctrl-C was pressed in the current call; set by the thread that waits for it."""
        self.over = False
        """True after the thread has ended."""
        self._work = work
        self._letters: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._fatal = self._one_turn = False
        self._until: Callable[[], bool] | None = None
        """When the current call ends; None: no call waits."""
        self._future: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    # ---- other threads' side -------------------------------------------------------------------

    def perform(self, begin: Callable[[], None], until: Callable[[], bool] | None = None) -> bool:
        """Run ``begin`` on this thread, then turn after turn until ``until()`` is true.

        Without ``until``, one turn is made. Returns True if Ctrl-C interrupted it: the jobs were
        cancelled and their trials are open again, or the jobs were left running.
        """
        future: Future[None] = Future()

        def start() -> None:
            if self._future is future:
                return  # a Ctrl-C came after it was put and before we knew that it was
            self._future, self._until = future, until or (lambda: True)
            self.left_behind, self._one_turn = False, until is None
            self.pressed = False
            self.failure, self._fatal = None, False
            self._work.begin(begin, one_turn=self._one_turn)

        return self._wait(future, start)

    def _wait(self, future: Future[None], start: Callable[[], None]) -> bool:
        """Begin a call and wait for its end; return whether Ctrl-C was pressed during it.

        The first Ctrl-C cancels the jobs. The second does not wait for them, and leaves even if the
        runner's current hook does not return. A signal that ends the program does the same, with a
        time limit: after it, the call does not even wait for the optimizer.
        """
        pressed = handled = 0
        begun = False
        while True:
            try:
                if not begun:
                    self._letters.put(start)
                    begun = True
                while handled < pressed + termination.presses():
                    handled += 1
                    self._interrupted_by_user(again=handled > 1)
                # Not without a timeout: a Ctrl-C that comes just before the wait does not end it.
                leaving = handled > 1 and not self.consulting
                wait((future,), timing.LEAVING_GRACE if leaving else timing.CTRL_C_LAG)
            except KeyboardInterrupt:
                pressed += 1
                continue
            if future.done():
                future.result()  # raises what ended it
                return handled + termination.presses() > 0
            # It may have been busy when the wait began, or be busy only now.
            in_time = self.consulting or not leaving
            if handled < 2 or (in_time and not termination.overdue()):
                continue  # do not leave the optimizer in the middle of its work
            what = "optimizer is not done" if self.consulting else "runner does not answer"
            log.warning("The %s; it is left behind in the middle of a call.", what)
            self.left_behind = True
            self._letters.put(lambda: self._drop(future))
            return True

    def _interrupted_by_user(self, *, again: bool) -> None:
        self.pressed = True
        self._letters.put(lambda: self._interrupt(hurry=again))
        if not again:
            self._work.say_interrupted()

    def post(self, work: Callable[[], None]) -> None:
        """Run ``work`` on this thread; an error ends the current call."""
        self._letters.put(work)

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` on this thread, without a turn; return its result."""
        done: Future[T] = Future()

        def attempt() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                done.set_exception(error)

        self._letters.put(attempt)
        return patiently(done)

    def rest(self) -> None:
        """Wait for the work that the last call has left behind; Ctrl-C ends the wait.

        Raises:
            OptimizationTerminated: the program is to end.
        """
        if not self.left_behind:
            return
        done: Future[None] = Future()
        self._letters.put(lambda: done.set_result(None))
        while not done.done():
            wait((done,), timing.CTRL_C_LAG)
            if termination.name():
                raise termination.ending()
        self.left_behind = False

    def end_with(self, last: Callable[[], None]) -> None:
        """Run ``last`` on this thread as its last work, and wait for it."""
        self.call(lambda: self._last(last))

    def dismiss(self, last: Callable[[], None]) -> None:
        """The same without waiting."""
        self._letters.put(lambda: self._last(last))

    def _last(self, last: Callable[[], None]) -> None:
        self.over = True
        last()

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, for so many seconds."""
        self._thread.join(timeout)

    # ---- this thread's -------------------------------------------------------------------------

    def hand_over(
        self, thread: Actor, work: Callable[[], T], done: Callable[[Future[T]], None]
    ) -> None:
        """Run ``work`` on another thread, and then ``done`` on this one."""
        self.consulting = True

        def back(future: Future[T]) -> None:
            self.consulting = False
            done(future)

        thread.post(work).add_done_callback(lambda future: self._letters.put(lambda: back(future)))

    def fail(self, error: BaseException, *, fatal: bool = False) -> None:
        """End the call with this error: at once, or when the trials in progress have ended."""
        if self.failure is None:
            self.failure = error
        self._fatal = self._fatal or fatal
        self._work.failed()
        if not fatal and not self._work.at_rest:
            log.error("%s (Waiting for the jobs that still run.)", error)

    def _main(self) -> None:
        while not self.over:
            try:
                self._take(self._receive())
                if self._until is not None and not self.over and not self._fatal:
                    self._work.turn()
                self._finish()
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                self.fail(error, fatal=True)

    def _take(self, letters: list[Callable[[], None]]) -> None:
        while letters:
            try:
                letters.pop(0)()
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                self.fail(error, fatal=True)

    def _receive(self) -> list[Callable[[], None]]:
        letters = []
        try:
            letters.append(self._letters.get(timeout=self._pause()))
            while True:
                letters.append(self._letters.get_nowait())
        except queue.Empty:
            return letters

    def _pause(self) -> float | None:
        """Seconds until something is due by itself; None: only a letter can change anything."""
        if self._until is None:
            return None
        if self._fatal:
            return 0.0 if not self.consulting else None
        now = time.monotonic()
        moment = self._work.due(now)
        return None if moment is None else max(0.0, moment - now)

    def _interrupt(self, *, hurry: bool) -> None:
        if self._until is not None:
            self._work.interrupt(hurry=hurry)

    def _finish(self) -> None:
        if self._until is None or self.consulting or not self._ended(self._until):
            return
        self._work.show()
        self._until = None
        try:
            self._work.end()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self.failure = self.failure or error
        if self.failure is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(self.failure)

    def _ended(self, until: Callable[[], bool]) -> bool:
        if self._fatal or (self.failure is not None and self._one_turn):
            return True
        if self.failure is not None or self._work.stopped:
            return self._work.at_rest
        return until() and self._work.settled

    def _drop(self, future: Future[None]) -> None:
        """The caller has left: its call is over in any state."""
        if self._future is future and not future.done():
            self._until = None
            future.set_result(None)
