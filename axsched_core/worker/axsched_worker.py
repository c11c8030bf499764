"""Run one job from its folder: ``python axsched_worker.py FOLDER [--restart N] [--stay]``.

One file, standard library only, Python 3.7 or newer: it travels with the job, so the machine
that runs the job needs only Python, no package of ours. ``axsched_core/jobfolder.py`` describes
the folder's files; ``job.json`` says what to run. In addition to the keys that the core writes
there, a runner may add

* ``threads`` (int): a limit for OpenMP, OpenBLAS, MKL and similar libraries, set in the job's
  environment unless the user has set one;
* ``sys_path`` (list of str), with ``sys_path_front``, ``sys_prefix`` and ``sys_modules``: where
  the driver's Python finds modules, in its order; see ``axsched_core/imports.py``;
* ``driver``: the `identity` of the driver; a job that runs in the driver's own process does not
  change that process;
* ``backend_explains`` (bool): only the backend sends SIGTERM to the supervisor, and it says the
  reason itself (a time limit, preemption, a requeue). A job that ends this way leaves
  ``stopped.json``, with the same content, instead of ``exit.json``: it may start again;
* ``signals_all`` (bool): the backend's SIGTERM reaches all processes of the job, so the supervisor
  does not send it a second time;
* ``list_modules`` (bool): a function that has returned leaves ``modules.json``: under ``modules``
  the names of the modules of Python and of installed packages that its process has loaded, in the
  order of their imports, and under ``new`` how many of them it has loaded itself;
* ``stop_grace`` (float): seconds that the objective has between SIGTERM and SIGKILL, whether it is
  cancelled, is over its time limit, or the supervisor was told to stop. Without it half a second,
  and no limit with ``backend_explains``: the backend ends it.

``job.json`` holds only the names of the objective's environment variables: their values may be
secrets, so they are in the environment of the process that starts the worker.

Three processes take part: the *caller* (a worker of a pool, a batch script), the
*supervisor*, and the *child*, the only one that loads and runs the user's code. The supervisor
enforces the time limit, watches for the ``cancel`` file, ends the child with all its
descendants, and writes ``exit.json``, even if the caller has died. It passes other signals on
to the child, as if the child were the process that the backend has started: SIGUSR1, SIGUSR2,
SIGHUP and all others except SIGTERM, those of job control, and those that report a fault of the
process itself. (SIGINT only with ``backend_explains``: elsewhere it may be a Ctrl-C that is meant
for the driver.)

On Linux "all its descendants" is exact: the supervisor is a child subreaper, so processes
that leave their session come back to it. On other systems (macOS) only the child's process
group can be ended.
"""

from __future__ import annotations

import errno
import json
import numbers
import os
import pickle
import signal
import stat
import sys
import time
import traceback
import warnings
from collections.abc import Mapping

try:
    # Imported here, so that forked supervisors and children find it loaded.
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):  # a Python built without libffi
    _libc = None  # type: ignore[assignment]

__all__ = [  # what a runner may rely on; the core alone uses the rest
    "NOT_MINE",
    "OWNER_GONE",
    "THREAD_VARIABLES",
    "identity",
    "is_alive",
    "last_beat",
    "owner_is_alive",
    "report",
    "run",
    "run_here",
    "set_process_name",
    "start_child",
    "start_detached",
    "start_spawned",
    "take_import_path",
    "wait_for_end",
    "wait_for_owner",
]

TYPE_CHECKING = False  # as in typing; importing it would cost every job some milliseconds
if TYPE_CHECKING:
    from typing import Any, Callable, Collection, NoReturn, Optional, Sequence, TextIO

NOT_MINE = 75
"""Exit code of ``run`` for a job that another process has claimed."""
OWNER_GONE = 76
"""Exit code of ``--stay`` if that process has ended and left no ``exit.json``."""

BEAT = 10.0
"""Seconds after which the supervisor touches ``pid.json``, so that other machines see that it
lives."""
WAIT = 0.1
"""Seconds between two looks at the ``cancel`` file."""
GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL."""
STOP_LAG = 1.0
"""Seconds within which a backend that ends a job signals all of its processes."""
SUSPENDED = 1.0
"""Seconds without a look at the child, after which we must have been stopped ourselves."""
SWEEP_LIMIT = 20.0
"""Seconds after which the supervisor gives up processes that SIGKILL does not end."""
CLAIM_GRACE = 5.0
"""Seconds within which the owner of a new claim must have filled it in."""
MESSAGE_LIMIT = 2000
RESERVE = 4096
"""Bytes of ``pid.json``: room for an ``exit.json`` if the job has filled the disk."""
NOTES = "notes"
"""The name in a result that may hold any JSON."""
JSON_LIMIT = 8 << 20
"""The most bytes of a protocol file that a supervisor reads: other processes may write it too."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables that limit a job's threads; the worker sets them to ``threads``."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_OWN_SIGNALS = (
    *("SIGCHLD", "SIGTERM", "SIGKILL", "SIGSTOP", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU"),
    *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGABRT", "SIGIOT", "SIGEMT"),
    *("SIGPIPE", "SIGXFSZ"),
)
_PASSED_ON = frozenset(
    {*signal.Signals, *range(getattr(signal, "SIGRTMIN", 1), getattr(signal, "SIGRTMAX", 0))}
) - {getattr(signal, name) for name in _OWN_SIGNALS if hasattr(signal, name)}
_WATCHED_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, *_PASSED_ON)
_LINUX = sys.platform.startswith("linux")


# ---------------------------------------------------------------- ways to start a job


def run(folder: str, restart: int = 0) -> int:
    """Supervise the job in this process until it has ended.

    The process becomes the supervisor until its end: SIGINT is ignored, SIGTERM ends the job, and
    other signals are passed on to the job.

    Args:
        folder: the job's folder.
        restart: how often the backend has put the job back into its queue.

    Returns:
        The job's exit code (128 + n for signal n; 1 if it failed with exit code 0), or
        `NOT_MINE` if another process has claimed the job; then nothing was run or written.

    Raises:
        OSError: the folder cannot be written.
    """
    return _Supervisor(os.path.abspath(folder)).run(restart)


def start_detached(folder: str, restart: int = 0, env: Optional[Mapping[str, str]] = None) -> int:
    """Fork a supervisor that outlives this process and belongs to none of its groups.

    Args:
        folder: the job's folder.
        restart: how often the backend has put the job back into its queue.
        env: variables of the job's environment, in addition to this process's.

    Returns:
        A file descriptor that reaches its end when the supervisor has ended. The caller must
        close it; closing it early does not affect the job.
    """
    read_end, write_end = os.pipe()
    middle = _fork()
    if middle == 0:
        os.environ.update(env or {})
        _run_detached(folder, restart, keep=write_end)
    os.close(write_end)
    os.waitpid(middle, 0)
    return read_end


def start_child(folder: str, env: Mapping[str, str], name: str) -> int:
    """Like `start_detached`, but the supervisor is a child of this process: one fork less.

    For a process that ignores SIGCHLD, so that its children leave no zombies.

    Args:
        folder: the job's folder.
        env: variables of the job's environment, in addition to this process's.
        name: of the new process: see `set_process_name`.
    """
    read_end, write_end = os.pipe()
    if _fork() == 0:
        try:
            set_process_name(name)
            os.environ.update(env)
            _supervise_apart(folder, 0, keep=write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    return read_end


def start_spawned(
    folder: str, python: str = sys.executable, env: Optional[Mapping[str, str]] = None
) -> int:
    """Like `start_detached`, in a fresh interpreter: slower, but nothing is inherited.

    Raises:
        OSError: the interpreter cannot be started.
        RuntimeError: the interpreter ended without having started the supervisor.
    """
    import subprocess  # not above: a supervisor does not need it

    read_end, write_end = os.pipe()
    try:
        # Its stdout is the pipe that shows the supervisor's end; nothing is written to it.
        process = subprocess.Popen(
            [python, os.path.join(folder, "axsched_worker.py"), folder, "--detach"],
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, **(env or {})),
            start_new_session=True,  # out of reach of Ctrl-C
        )
        code = process.wait()
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    if code != 0:
        os.close(read_end)
        raise RuntimeError("%s cannot run the job's worker (exit code %d)" % (python, code))
    return read_end


def wait_for_end(descriptor: int) -> None:
    """Wait for a supervisor that `start_detached` or `start_spawned` has started."""
    try:
        while os.read(descriptor, 4096):
            pass
    finally:
        os.close(descriptor)


def run_here(folder: str) -> bool:
    """Run a function objective in the calling thread, without supervisor (``isolation="none"``).

    Writes the same files. It cannot capture the function's output, cannot be cancelled
    once it runs, enforces no time limit, and does not set directory or environment.

    Returns:
        False: another process has claimed the job.
    """
    folder = os.path.abspath(folder)
    if not _claim(folder, 0):
        return False
    start = time.time()
    ending = _Ending()
    try:
        if _exists(folder, "cancel"):
            ending = _Ending(cause="CANCELLED", message=_cancel_message(folder))
        else:
            _write_pid(folder)
            _plain_start_method()
            _this_thread().progress = os.path.join(folder, "progress.jsonl")
            with open(_open_log(folder, "stderr.log"), "a", encoding="utf-8") as stderr:
                ending = _run_function(folder, _read_json(folder, "job.json"), stderr)
    except BaseException as error:
        ending = _supervisor_trouble(folder, error)
        raise
    finally:
        _this_thread().progress = ""
        _write_exit(folder, ending, start)
    return True


def _fork() -> int:
    # Python 3.12 warns about every fork with other threads; with -W error that would raise
    # after the fork. The filters are restored at once, in both processes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _run_detached(folder: str, restart: int, keep: int) -> NoReturn:
    """In an intermediate process: fork the supervisor and end."""
    code = 1
    try:
        if _fork() == 0:
            _supervise_apart(folder, restart, keep)
        code = 0
    finally:
        os._exit(code)


def _supervise_apart(folder: str, restart: int, keep: int) -> None:
    """Supervise a job, in no group of this process and with none of its files."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    _close_descriptors(keep=(keep,))
    run(folder, restart)


# ---------------------------------------------------------------- who runs a job


def owner_is_alive(folder: str) -> Optional[bool]:
    """Say whether the process that has claimed the job still lives.

    Returns:
        None if that cannot be known from here: the job runs on another machine.
        False also if the job is not claimed, or the driver has taken it back.
    """
    claim = _read_json(folder, "claim")
    for owner in (_read_json(folder, "pid.json"), claim):
        if _names_a_process(owner):
            return is_alive(owner)
    if isinstance(claim, dict):
        return False  # taken back by the driver: {"by": ...}
    # A claim is empty for a moment after it is made, before it is filled in.
    try:
        return time.time() - os.lstat(os.path.join(folder, "claim")).st_mtime < CLAIM_GRACE
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False


def last_beat(folder: str) -> Optional[float]:
    """When the process that runs a job last said that it lives, by the file system's clock.

    Returns:
        Seconds since the epoch; only their changes mean anything on another machine. None if
        it never says so: the function runs in a process of the backend's own.
    """
    owner = _read_json(folder, "pid.json")
    if not isinstance(owner, dict) or "beat" not in owner:
        return None
    try:
        return os.lstat(os.path.join(folder, "pid.json")).st_mtime
    except OSError:
        return None


def _names_a_process(owner: Any) -> bool:
    """False if this cannot be an `identity`: a job may have written anything in its place."""
    if not isinstance(owner, dict):
        return False
    pid, start = owner.get("pid"), owner.get("start_time")
    return type(pid) is int and 0 < pid < 1 << 31 and (start is None or type(start) is int)


def _taken_back(folder: str) -> bool:
    """True if the driver has the claim, so that the job must never run."""
    claim = _read_json(folder, "claim")
    # If the job has begun, only the job itself can have written that.
    return isinstance(claim, dict) and "by" in claim and not _exists(folder, "pid.json")


def is_alive(owner: Mapping[str, Any]) -> Optional[bool]:
    """Say whether the process of this `identity` lives; None: it is on another machine."""
    if owner.get("host") != os.uname().nodename:
        return None
    if owner.get("boot_id") != _boot_id():
        return False
    if owner.get("start_time") is None:  # no /proc
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # another user's
        return True
    fields = _process_stat(owner["pid"])
    return fields is not None and fields[0] != "Z" and int(fields[19]) == owner["start_time"]


def wait_for_owner(folder: str) -> bool:
    """Wait until the job has ended, if any process of this machine runs it.

    Returns:
        False: it runs on another machine, so waiting is not possible.
    """
    while not _exists(folder, "exit.json"):
        alive = owner_is_alive(folder)
        if not alive:
            return alive is False
        time.sleep(WAIT)
    return True


def identity() -> dict[str, Any]:
    """What distinguishes this process from all earlier and later ones: for `is_alive`."""
    fields = _process_stat(os.getpid())
    return {
        "pid": os.getpid(),
        "start_time": int(fields[19]) if fields else None,
        "boot_id": _boot_id(),
        "host": os.uname().nodename,
    }


def _process_stat(pid: object) -> Optional[list[str]]:
    """The fields of /proc/PID/stat from the third (the state) on; None without such a process."""
    try:
        with open("/proc/%s/stat" % pid, encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _boot_id() -> Optional[str]:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _claim(folder: str, restart: int) -> bool:
    """Claim the job. False: another process has it, or the driver has taken it back."""
    mine = dict(identity(), restart=restart)
    first = _create(os.path.join(folder, "claim"), mine)
    if not restart:
        return first
    # A requeued job may find the claim of its first start, but not the driver's claim, which
    # says that the job must never run.
    if not first and _taken_back(folder):
        return False
    return _create(os.path.join(folder, "claim.%d" % restart), mine)


def _create(path: str, content: Mapping[str, Any]) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return True


def _set_aside(folder: str, restart: int) -> None:
    """Keep the files of the earlier start, under other names."""
    names = ("result.json", "progress.jsonl", "stdout.log", "stderr.log", "exit.json")
    for name in (*names, "stopped.json"):
        if _exists(folder, name):
            path = os.path.join(folder, name)
            os.replace(path, "%s.%d" % (path, restart - 1))


# ---------------------------------------------------------------- how a job ends


class _Ending:
    """The content of ``exit.json``."""

    def __init__(
        self,
        exit_code: Optional[int] = None,
        signal: Optional[int] = None,
        cause: Optional[str] = None,
        message: str = "",
        max_rss_bytes: Optional[int] = None,
    ) -> None:
        self.exit_code = exit_code
        self.signal = signal
        self.cause = cause
        self.message = message
        self.max_rss_bytes = max_rss_bytes

    def as_exit_code(self) -> int:
        if self.signal is not None:
            return 128 + self.signal
        return self.exit_code or (1 if self.cause else 0)


def _exit_data(ending: _Ending, start: float) -> dict[str, Any]:
    data = dict(vars(ending), start=start, end=time.time(), host=os.uname().nodename)
    data["message"] = ending.message[:MESSAGE_LIMIT]
    return data


def _write_exit(folder: str, ending: _Ending, start: float, name: str = "exit.json") -> None:
    data = _exit_data(ending, start)
    try:
        _write_json(folder, name, data)
    except OSError:
        words = "%s cannot be written (%s):\n%s\n" % (name, folder, traceback.format_exc())
        _note(folder, words)
        data["message"] = data["message"][: RESERVE // 8]  # a character may become six
        if not _write_in_place("pid.json", folder, json.dumps(data).encode(), name):
            raise


def _write_in_place(old: str, folder: str, data: bytes, name: str) -> bool:
    """If a full disk takes no new file: use the room of one that is no longer needed."""
    try:
        place = _place(folder, make=True)
        try:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(old, flags, dir_fd=place), "wb", buffering=0) as file:
                check_regular(os.fstat(file.fileno()), old)
                if file.write(data) != len(data):
                    return False
                file.truncate()
            os.replace(old, name, src_dir_fd=place, dst_dir_fd=place)
        finally:
            os.close(place)
    except OSError:
        return False
    return True


def _supervisor_trouble(folder: str, error: BaseException) -> _Ending:
    _note(folder, "axsched: the job's supervisor failed:\n" + traceback.format_exc())
    return _Ending(cause="NODE_FAIL", message="the job's supervisor failed: " + _one_line(error))


def _note(folder: str, text: str) -> None:
    """Report trouble in every place that is left: the job's stderr.log, and our own stderr."""
    for place in ("stderr.log", 2):
        try:
            descriptor = os.dup(2) if place == 2 else _open_log(folder, "stderr.log")
            with open(descriptor, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            continue


def _cancel_message(folder: str) -> str:
    try:
        reason = _read(folder, "cancel", MESSAGE_LIMIT).decode("utf-8", "replace").strip()
    except OSError:
        reason = ""
    return "cancelled: " + reason if reason else "cancelled"


def _one_line(error: BaseException) -> str:
    """The last line of an error's traceback."""
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    return lines[-1 if isinstance(error, SyntaxError) else 0] if lines else type(error).__name__


# ---------------------------------------------------------------- the supervisor


class _Supervisor:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.job: dict[str, Any] = {}
        self.child = 0
        self.status: Optional[int] = None  # of the child, as wait4 gives it
        self.max_rss: Optional[int] = None
        self.start = time.time()
        self.told_to_stop = False
        self.stopped = False  # by the backend, which says why
        self.oom_kills = _oom_kills()

    def run(self, restart: int) -> int:
        if not _claim(self.folder, restart):
            return NOT_MINE
        self.start = time.time()
        ending = _Ending()
        try:
            if restart:
                _set_aside(self.folder, restart)
            if self._cancelled():
                ending = _Ending(cause="CANCELLED", message=_cancel_message(self.folder))
            else:
                ending = self._supervise()
        except BaseException as error:  # noqa: BLE001 - it is told in exit.json
            ending = _supervisor_trouble(self.folder, error)
            self._end_all(grace=0.0)
        finally:
            name = "stopped.json" if self.stopped else "exit.json"
            _write_exit(self.folder, ending, self.start, name)
            if not self.stopped:
                _remove(self.folder, "stopped.json")
        return ending.as_exit_code()

    def _supervise(self) -> _Ending:
        self._get_ready()
        _hold(self.folder)
        _write_pid(self.folder, beat=BEAT)
        job = _read_json(self.folder, "job.json")
        if not isinstance(job, dict):
            raise ValueError("job.json is missing, not JSON, or longer than %d bytes" % JSON_LIMIT)
        self.job = job
        stray_before = self._stray_result()
        report = self._start_child()
        why = self._wait()
        if self.stopped:
            why = self._leave_to_backend(why)
        grace = self.job.get("stop_grace") if why is not None else None
        stubborn = self._end_all(GRACE if grace is None else float(grace))
        ending = self._ending(why, _read_report(report), stray_before)
        if stubborn:
            ending.message += " (processes that SIGKILL did not end: %s)" % stubborn
        ending.max_rss_bytes = self.max_rss
        return ending

    def _get_ready(self) -> None:
        # If stdin, stdout or stderr is closed, none of our files may get its descriptor.
        descriptor = 0
        while descriptor <= 2:
            descriptor = os.open(os.devnull, os.O_RDWR)
        os.close(descriptor)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would make waitpid useless
        if hasattr(signal, "sigtimedwait"):
            signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED_SIGNALS)
        else:
            for number in _WATCHED_SIGNALS[1:]:
                signal.signal(number, lambda number, _: self._received(number))
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def _start_child(self) -> int:
        """Fork the child; return the end of a pipe in which it may report how it failed."""
        stdio = [os.open(os.devnull, os.O_RDONLY)]
        stdio += [_open_log(self.folder, name) for name in ("stdout.log", "stderr.log")]
        read_end, write_end = os.pipe()
        supervisor = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            _be_child(self.folder, self.job, stdio, write_end, supervisor)
        for descriptor in stdio:
            os.close(descriptor)
        os.close(write_end)
        return read_end

    def _wait(self) -> Optional[_Ending]:
        """Wait for the child's end, or for a reason to end it; return this reason."""
        limit = self.job.get("time_limit")
        looked = time.monotonic()
        next_beat = looked + BEAT
        deadline = None if limit is None else looked + float(limit)
        while self._reap():
            now = time.monotonic()
            if deadline is not None and now - looked > SUSPENDED:
                deadline += now - looked  # the backend had stopped us, and the child with us
            looked = now
            if now >= next_beat:
                next_beat = now + BEAT
                _touch(self.folder, "pid.json")
            if self.status is not None:
                break  # the child has ended; other processes may be left
            if self._cancelled():
                return _Ending(cause="CANCELLED", message=_cancel_message(self.folder))
            if self.told_to_stop:
                return self._told_to_stop()
            pause = WAIT
            if deadline is not None:
                pause = min(WAIT, deadline - time.monotonic())
                if pause <= 0:
                    words = "ran longer than its time limit of %s s" % (limit,)
                    return _Ending(cause="TIME_LIMIT", message=words)
            self._pause(pause)
        return self._told_to_stop() if self._stopped_with_child() else None

    def _told_to_stop(self) -> _Ending:
        if self._cancelled():
            return _Ending(cause="CANCELLED", message=_cancel_message(self.folder))
        self.stopped = bool(self.job.get("backend_explains"))
        return _Ending(cause="SIGNAL", message="supervisor was told to stop (SIGTERM)")

    def _leave_to_backend(self, why: Optional[_Ending]) -> Optional[_Ending]:
        """After SIGTERM: leave the objective the time that the backend gives it.

        The backend ends all processes when this time is over, this one too: what is known now is
        written down first. Returns the reason for the end, None if the objective has finished.
        """
        assert why is not None
        limit = self.job.get("stop_grace")
        deadline = None if limit is None else time.monotonic() + float(limit)
        try:
            _write_json(self.folder, "stopped.json", _exit_data(why, self.start))
        except OSError:  # the disk is full: the room that is left is for the last word
            _note(self.folder, why.message + "\n")
        if not self.job.get("signals_all"):
            self._signal_all(signal.SIGTERM)
        while self._anybody_left():
            if self._cancelled():
                self.stopped = False
                return _Ending(cause="CANCELLED", message=_cancel_message(self.folder))
            if deadline is not None and time.monotonic() >= deadline:
                break
            self._pause(WAIT)
        if self.status == 0 and self._has_result():
            self.stopped = False
            return None
        return why

    def _stopped_with_child(self) -> bool:
        """Say whether the child ended because the backend has told all processes to stop."""
        if not self.job.get("backend_explains"):
            return False
        status = self.status or 0
        # It tells them one after the other, so the child may end before we are told.
        signalled = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
        deadline = time.monotonic() + (STOP_LAG if signalled else 0.0)
        while not self.told_to_stop:
            left = deadline - time.monotonic()
            self._pause(max(0.0, left))
            if left <= 0:
                break
        return self.told_to_stop and not (status == 0 and self._has_result())

    def _pause(self, seconds: float) -> None:
        """Wait for a child's end or another signal, at most this long."""
        if hasattr(signal, "sigtimedwait"):
            seen = signal.sigtimedwait(_WATCHED_SIGNALS, seconds)
            if seen is not None:
                self._received(seen.si_signo)
        else:
            time.sleep(min(seconds, 0.05))

    def _received(self, number: int) -> None:
        """We were sent a signal: it is for us, or it is passed on to the child."""
        if number == signal.SIGTERM:
            self.told_to_stop = True
        elif number == signal.SIGINT and not self.job.get("backend_explains"):
            return
        elif number in _PASSED_ON and self.child and self.status is None:
            _signal(os.kill, self.child, number)

    def _reap(self) -> bool:
        """Collect ended children, adopted ones too. False: there are no more children."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.status = status
                self.max_rss = usage.ru_maxrss * (1024 if _LINUX else 1)

    def _end_all(self, grace: float) -> list[int]:
        """End the child and all its descendants; return those that could not be ended."""
        begin = time.monotonic()
        if grace and self._anybody_left():
            self._signal_all(signal.SIGTERM)
        while self._anybody_left():
            passed = time.monotonic() - begin
            if passed > SWEEP_LIMIT:
                return _descendants(os.getpid())
            if passed >= grace:  # again and again: a killed process may just have forked
                self._signal_all(signal.SIGKILL)
            self._pause(0.02)
        return []

    def _anybody_left(self) -> bool:
        left = self._reap()
        if _LINUX or not self.child:
            return left
        try:  # without a subreaper, only processes in the child's group can be found
            os.killpg(self.child, 0)
        except OSError:
            return left
        return True

    def _signal_all(self, number: int) -> None:
        if not _LINUX:
            _signal(os.killpg, self.child, number)
            return
        for pid in _descendants(os.getpid()):
            _signal(os.kill, pid, number)

    def _ending(
        self,
        why: Optional[_Ending],
        report: Mapping[str, Any],
        stray_before: Optional[tuple[int, ...]],
    ) -> _Ending:
        status = self.status
        if status is None:
            ending = _Ending(cause="NODE_FAIL", message="the job's process vanished")
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            ending = _Ending(signal=number, cause="SIGNAL", message=_signal_words(number))
        else:
            ending = _Ending(exit_code=os.WEXITSTATUS(status))
            ending.cause = report.get("cause") or ("EXIT_CODE" if ending.exit_code else None)
            ending.message = report.get("message") or ""
            if ending.cause == "EXIT_CODE" and not ending.message:
                ending.message = "ended with exit code %s" % (ending.exit_code,)
        if ending.as_exit_code() == 128 + signal.SIGKILL and _oom_kills() > self.oom_kills:
            ending.cause = "OUT_OF_MEMORY"
            ending.message = "killed by the kernel: the job's memory limit was reached"
        if why is not None:
            ending.cause, ending.message = why.cause, why.message
        elif ending.cause is None and self.job["kind"] == "function" and not self._has_result():
            ending.cause = "RESULT_INVALID"
            ending.message = "the process ended (os._exit(0)?) before the function had returned"
        elif ending.cause is None and not self._has_result():
            stray = self._stray_result()
            if stray is not None and stray != stray_before:
                ending.cause, ending.message = "RESULT_INVALID", self._stray_words()
        return ending

    def _stray_result(self) -> Optional[tuple[int, ...]]:
        """What distinguishes versions of a ``result.json`` in the script's working directory.

        Other jobs may share that directory, so it is not known whose result it is. If the script
        runs in the job's folder, the file is the result file itself, and not a stray.
        """
        if not self.job.get("working_dir"):
            return None
        try:
            found = os.stat(os.path.join(self.job["working_dir"], "result.json"))
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _stray_words(self) -> str:
        return (
            "the script has left nothing in the file that $AXSCHED_RESULT_FILE names, but there "
            "is a new result.json in its working directory %s; other jobs may write there too, "
            "so it is not read: write the metrics to $AXSCHED_RESULT_FILE" % self.job["working_dir"]
        )

    def _has_result(self) -> bool:
        return _exists(self.folder, "result.json")

    def _cancelled(self) -> bool:
        return _exists(self.folder, "cancel")


def _oom_kills() -> int:
    """How many processes of our control group the kernel's out-of-memory killer has killed."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return 0
    found = 0
    for _, kind, path in groups:
        if "memory" in kind.split(","):
            found += _counted("/sys/fs/cgroup/memory" + path + "/memory.oom_control")
        elif not kind:
            found += _counted("/sys/fs/cgroup" + path + "/memory.events")
    return found


def _counted(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0


def _descendants(root: int) -> list[int]:
    """All living processes below one, found in /proc; none if there is no /proc."""
    if not _LINUX:
        return []
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _process_stat(name)
            if fields is not None and fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found = list(children.get(root, ()))
    for pid in found:  # grows during the loop
        found += children.get(pid, ())
    return found


def _signal(send: Callable[[int, int], None], target: int, number: int) -> None:
    """Send a signal to a process that may have ended, or that (setuid) we may not signal."""
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _signal_words(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "signal %d" % number
    if number == signal.SIGKILL:
        return "killed by SIGKILL; often the kernel's out-of-memory killer"
    if number == signal.SIGSEGV:
        return "killed by SIGSEGV (segmentation fault)"
    return "killed by " + name


def set_process_name(name: str) -> str:
    """Change what Linux shows as this process's name (15 bytes); return the name before."""
    if not _LINUX:
        return ""
    with open("/proc/self/comm", "r+", encoding="utf-8", errors="replace") as file:
        before = file.read().rstrip("\n")
        file.write(name)
    return before


def _prctl(option: int, value: int) -> None:
    if _LINUX and _libc is not None:
        _libc.prctl(option, value, 0, 0, 0)


def _close_descriptors(keep: Sequence[int] = ()) -> None:
    """Close all descriptors except stdin, stdout, stderr and ``keep``."""
    listing = "/proc/self/fd" if _LINUX else "/dev/fd"
    for name in os.listdir(listing):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError as error:
                if error.errno != errno.EBADF:  # the listing's own descriptor
                    raise


# ---------------------------------------------------------------- the child


def _be_child(
    folder: str, job: Mapping[str, Any], stdio: Sequence[int], report: int, supervisor: int
) -> NoReturn:
    """In the child: run the user's code and end."""
    ending = _Ending(exit_code=1, cause="NODE_FAIL", message="the job's process failed to start")
    try:
        _become_job(stdio, report, supervisor)
        if job.get("kind") == "function":
            os.chdir(folder)
            os.environ.update(_environment(folder, job, os.environ))
            _fresh_start()
            ending = _run_function(folder, job, sys.stderr, alone=True)
        elif job.get("kind") == "script":
            ending = _become_script(folder, job)
        else:
            words = "this worker runs functions and scripts, not %r" % job.get("kind")
            ending = _Ending(exit_code=1, cause="LOAD_ERROR", message=words)
    except BaseException as error:  # noqa: BLE001 - it is reported to the supervisor
        _say(traceback.format_exc(), sys.stderr)
        ending.message += ": " + _one_line(error)
    finally:
        _report(report, ending)
        _flush()
        os._exit(1 if ending.exit_code is None else ending.exit_code & 0xFF)


def _become_job(stdio: Sequence[int], report: int, supervisor: int) -> None:
    """Drop everything inherited from the supervisor: session, signals, descriptors, streams."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before the line above
        os._exit(1)
    for standard, descriptor in enumerate(stdio):
        os.dup2(descriptor, standard)
    _close_descriptors(keep=(report, *_held.values()))
    if not hasattr(signal, "sigtimedwait"):  # the supervisor had to set handlers
        for number in _PASSED_ON:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # The old stream objects may hold another process's text: they are kept, but never flushed.
    _old_streams.extend((sys.stdin, sys.stdout, sys.stderr))
    sys.stdin = sys.__stdin__ = _stream(0, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w")  # type: ignore[misc]


_old_streams: list[Any] = []


def _stream(descriptor: int, mode: str) -> Any:
    # Line by line, so that the log can be read while the job runs.
    return open(
        descriptor,
        mode,
        buffering=1,
        encoding="utf-8",
        errors="backslashreplace" if mode == "w" else "replace",
        closefd=False,
    )


def _environment(folder: str, job: Mapping[str, Any], base: Mapping[str, str]) -> dict[str, str]:
    env = dict(base)
    if job.get("threads"):
        for name in THREAD_VARIABLES:
            env.setdefault(name, str(job["threads"]))
    parameters = os.path.join(folder, "params.json")
    env.update(
        AXSCHED_JOB_DIR=folder,
        AXSCHED_PARAMS_FILE=parameters,
        AXSCHED_RESULT_FILE=os.path.join(folder, "result.json"),
        AXSCHED_PROGRESS_FILE=os.path.join(folder, "progress.jsonl"),
        AXSCHED_TRIAL_INDEX=str(job["trial_index"]),
        AXSCHED_ATTEMPT=str(job["attempt"]),
        JOB_PARAMS_FILE=parameters,
    )
    return env


def _fresh_start() -> None:
    """Undo what a fork inherits from a process that has run for some time."""
    import faulthandler

    faulthandler.enable(file=2)  # a segmentation fault leaves its traceback in stderr.log
    # Every job that is forked from one worker would draw the same "random" numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    # Helper processes of the worker: their descriptors are now closed, so a job that needs a
    # helper must start its own.
    for package in ("multiprocessing", "joblib.externals.loky.backend", "loky.backend"):
        module = sys.modules.get(package + ".resource_tracker")
        tracker = getattr(module, "_resource_tracker", None)
        if tracker is not None:
            tracker._fd = tracker._pid = None
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        # Not a pool's child, which may be daemonic: as multiprocessing describes a main process.
        process._parent_process, process.ORIGINAL_DIR = None, os.getcwd()
        process._children.clear()
        key = process.AuthenticationString(os.urandom(32))
        current = process.current_process()
        current.__class__ = process.BaseProcess
        current._name, current._identity, current._parent_pid = "MainProcess", (), None
        current._config = {"authkey": key, "semprefix": "/mp"}
    _plain_start_method()
    loky: Any = sys.modules.get("joblib.externals.loky.process_executor")
    if loky is not None:  # it counts the depth of nested pools
        loky._CURRENT_DEPTH = 0


def _plain_start_method() -> None:
    """Reset the start method: loky's workers use loky's, a job uses Python's default."""
    context: Any = getattr(sys.modules.get("multiprocessing.context"), "_default_context", None)
    chosen = getattr(context, "_actual_context", None)
    if chosen is not None and str(chosen.get_start_method()).startswith("loky"):
        context._actual_context = None


def _become_script(folder: str, job: Mapping[str, Any]) -> _Ending:
    """Replace this process by the script; returns only if that fails."""
    argv = job["argv"]
    place = job.get("working_dir") or folder
    missing = [name for name in job.get("env") or () if name not in os.environ]
    if missing:
        words = "the job has not got the environment variables %s" % ", ".join(missing)
        return _Ending(exit_code=1, cause="LOAD_ERROR", message=words)
    try:
        os.chdir(place)
    except OSError as error:
        words = "its working directory %s cannot be entered: %s" % (place, error.strerror)
        return _script_failed(126, words)
    # Python ignores these signals; an ordinary program does not expect that.
    for name in ("SIGPIPE", "SIGXFSZ", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, _environment(folder, job, os.environ))
    except FileNotFoundError:
        if os.path.exists(argv[0]):
            return _script_failed(127, "%s: the interpreter of its #! line is missing" % argv[0])
        return _script_failed(127, "%s: command not found" % argv[0])
    except PermissionError:
        return _script_failed(126, "%s: not executable; try chmod +x" % argv[0])
    except OSError as error:
        hint = "; is its #! line missing?" if error.errno == errno.ENOEXEC else ""
        return _script_failed(126, "%s: %s%s" % (argv[0], error.strerror, hint))


def _script_failed(code: int, words: str) -> _Ending:
    print("axsched:", words, file=sys.stderr)
    return _Ending(exit_code=code, cause="EXIT_CODE", message=words)


def _report(descriptor: int, ending: _Ending) -> None:
    """Tell the supervisor what an exit code cannot say. It is too short to block."""
    data = json.dumps({"cause": ending.cause, "message": ending.message[:MESSAGE_LIMIT]})
    try:
        os.write(descriptor, data.encode())
    except OSError:  # the user's code closed what it did not open; the exit code remains
        print("axsched: cannot report", data, file=sys.stderr)


def _read_report(descriptor: int) -> Mapping[str, Any]:
    os.set_blocking(descriptor, False)
    try:
        report = json.loads(os.read(descriptor, 1 << 16).decode("utf-8") or "{}")
    except (BlockingIOError, ValueError):
        report = {}
    os.close(descriptor)
    return report if isinstance(report, dict) else {}


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # full disk, or closed or replaced by the user's code
    if _libc is not None:
        _libc.fflush(None)  # what C code has printed


# ---------------------------------------------------------------- a function objective


class _Refused(Exception):
    """The job fails, with a cause and a message of ours."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def _run_function(
    folder: str, job: Mapping[str, Any], stderr: TextIO, alone: bool = False
) -> _Ending:
    """Load the function, call it, write its result. Tracebacks go to ``stderr``.

    ``alone``: in a separate process, which gets the driver's main module.
    """
    try:
        before = frozenset(sys.modules)
        _provide_report()
        function, main = _load(folder, job, stderr)
        if alone:
            _become_main(folder, main)
        parameters = _read_json(folder, "params.json")
        value = function(**parameters) if job["keywords"] else function(parameters)
        _write_result(folder, value, job["max_result_bytes"])
        if alone and job.get("list_modules"):
            _list_modules(folder, before)
    except _Refused as refusal:
        _say("axsched: %s\n" % refusal, stderr)
        code = 0 if refusal.cause == "RESULT_INVALID" else 1
        return _Ending(exit_code=code, cause=refusal.cause, message=str(refusal))
    except SystemExit as stop:
        return _ending_of_exit(stop, stderr)
    except MemoryError as error:
        _print_traceback(error, stderr)
        return _Ending(exit_code=1, cause="OUT_OF_MEMORY", message=_one_line(error))
    except BaseException as error:  # noqa: BLE001 - anything that the user's code raises
        _print_traceback(error, stderr)
        words = _one_line(error) + _hint(error)
        return _Ending(exit_code=1, cause="EXCEPTION", message=words)
    return _Ending(exit_code=0)


def _list_modules(folder: str, before: Collection[str]) -> None:
    """Write down the loaded modules that belong to Python or to an installed package.

    Args:
        folder: the job's folder.
        before: the names of the modules that were loaded before the function.
    """
    standard = os.path.dirname(os.__file__) + os.sep
    installed = [os.sep + name + os.sep for name in ("site-packages", "dist-packages")]
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (
            file.startswith(standard) or any(part in file for part in installed)
        ):
            found.append(name)
    try:
        new = sum(name not in before for name in found)
        _write_json(folder, "modules.json", {"modules": found, "new": new})
    except OSError:  # the disk is full: the next jobs import their modules themselves
        return


def _hint(error: BaseException) -> str:
    if isinstance(error, (pickle.PicklingError, AttributeError)) and "__main__" in str(error):
        return (
            " (a process that the objective starts does not find it in __main__: put it in a "
            "module that the objective imports)"
        )
    return ""


def _ending_of_exit(stop: SystemExit, stderr: TextIO) -> _Ending:
    """What ``sys.exit`` in the function means: the same as in a program."""
    if stop.code is None or stop.code == 0:
        words = "the function called sys.exit(%s) and so returned no value" % (stop.code,)
        return _Ending(exit_code=0, cause="RESULT_INVALID", message=words)
    if isinstance(stop.code, int):
        code = stop.code & 0xFF
        words = "the function called sys.exit(%d)" % stop.code
    else:
        code, words = 1, "the function called sys.exit: %s" % (stop.code,)
        _say("%s\n" % (stop.code,), stderr)
    return _Ending(exit_code=code, cause="EXIT_CODE", message=words)


def _print_traceback(error: BaseException, stderr: TextIO) -> None:
    # Without the first frame, which is ours.
    trace = error.__traceback__ and (error.__traceback__.tb_next or error.__traceback__)
    _say("".join(traceback.format_exception(type(error), error, trace)), stderr)


def _say(text: str, stderr: TextIO) -> None:
    try:
        stderr.write(text)
        stderr.flush()
    except (OSError, ValueError):  # the disk is full, or the function has closed it
        return


def _load(folder: str, job: Mapping[str, Any], stderr: TextIO) -> tuple[Any, Mapping[str, Any]]:
    """The function, and the parts of the driver's ``__main__`` that came with it."""
    wanted, here = tuple(job["python"]), sys.version_info[:2]
    if wanted != here:
        raise _Refused(
            "LOAD_ERROR",
            "the function was pickled by Python %d.%d but this is Python %d.%d (%s): "
            "use the same minor version there, or a script objective"
            % (wanted + here + (sys.executable,)),
        )
    if job.get("driver") != identity():
        take_import_path(job)
    try:
        return _unpickle(folder)
    except BaseException as error:
        _print_traceback(error, stderr)
        name = job.get("function") or "the function"
        if isinstance(error, ModuleNotFoundError) and error.name:
            words = (
                "%s cannot be loaded: there is no module %r for the Python that runs the job "
                "(%s); install it there" % (name, error.name, sys.executable)
            )
        else:
            words = "%s cannot be loaded: %s" % (name, _one_line(error))
        raise _Refused("LOAD_ERROR", words) from error


def take_import_path(job: Mapping[str, Any]) -> None:
    """Have this process find modules where the driver's Python finds them.

    Args:
        job: the content of ``job.json``.
    """
    wanted = [job.get(name) for name in ("sys_path", "sys_path_front", "sys_prefix", "sys_modules")]
    if wanted != _path_taken:  # else this process was forked from one that has done it
        sys.path[:] = import_path(job, sys.path)
        _forget_strangers(job.get("sys_modules") or ())
        _path_taken[:] = wanted


_path_taken: list[Any] = []


def import_path(job: Mapping[str, Any], here: Sequence[str]) -> list[str]:
    """The ``sys.path`` of a job: it begins as the driver's.

    The driver's entries before its Python's own folders always come first. If the driver's Python
    is another one (another environment), its own folders come after those of this Python.

    Args:
        job: with ``sys_path`` and the keys that belong to it.
        here: this process's ``sys.path``.
    """
    wanted = list(job.get("sys_path") or ())
    front = len(wanted)
    if job.get("sys_prefix", sys.prefix) != sys.prefix:
        front = job.get("sys_path_front", front)
    return list(dict.fromkeys([*wanted[:front], *here, *wanted[front:]]))


def _forget_strangers(hidden: Collection[str]) -> None:
    """Forget modules that this process has loaded from another place than the job would.

    Args:
        hidden: Python's own modules that the driver replaces by others. The other modules of
            Python stay: a process that has started with them needs them.
    """
    from importlib.machinery import PathFinder

    own: Collection[str] = getattr(sys, "stdlib_module_names", ())
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or name in ("__main__", "__mp_main__") or not isinstance(file, str):
            continue
        if name in own and name not in hidden:
            continue
        spec = PathFinder.find_spec(name)
        if spec is None or not spec.has_location or _same_file(str(spec.origin), file):
            continue
        for loaded in list(sys.modules):
            if loaded == name or loaded.startswith(name + "."):
                del sys.modules[loaded]


def _same_file(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _unpickle(folder: str) -> tuple[Any, dict[str, Any]]:
    try:
        with open(os.path.join(folder, "function.pkl"), "rb") as file:
            unpickler = _Unpickler(file)
            return unpickler.load(), unpickler.main()
    except ModuleNotFoundError as error:
        beside = os.path.join(folder, "cloudpickle.zip")
        if not (error.name or "").startswith("cloudpickle") or beside in sys.path:
            raise
        sys.path.append(beside)  # this Python has none; the job brought one
        return _unpickle(folder)


class _Unpickler(pickle.Unpickler):
    """Remembers the functions and classes that were pickled by value."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._made: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if not module.startswith("cloudpickle") or not name.startswith("_make_"):
            return found

        def make(*arguments: Any) -> Any:
            self._made.append(found(*arguments))
            return self._made[-1]

        return make

    def main(self) -> dict[str, Any]:
        """Those of the driver's ``__main__``, and everything that they use from it."""
        content: dict[str, Any] = {}
        for made in self._made:
            if getattr(made, "__module__", None) == "__main__":
                content.update(getattr(made, "__globals__", ()))
                content[getattr(made, "__qualname__", "")] = made
        return {name: value for name, value in content.items() if name.isidentifier()}


def _become_main(folder: str, content: Mapping[str, Any]) -> None:
    """Make the job's ``__main__`` like the driver's, as far as its content came with the job.

    multiprocessing looks there for the functions that it calls. A fresh interpreter of
    multiprocessing runs the file of ``__main__``, which is this one, as ``__mp_main__``.
    """
    main = type(sys)("__main__")
    vars(main).update(content, __name__="__main__", __spec__=None)
    main.__file__ = os.path.join(folder, "axsched_worker.py")
    if not os.path.exists(main.__file__):  # in a container the two files are one level higher
        main.__file__ = os.path.abspath(_become_main.__code__.co_filename)
    sys.modules["__main__"] = main


_RETURN = 'return a number, (mean, sem), or {"metric": number | (mean, sem) | {"mean":, "sem":}}'


def _write_result(folder: str, value: object, limit: int) -> None:
    plain = _plain_result(value)
    data = json.dumps(plain).encode()
    if len(data) > limit and isinstance(plain, dict) and NOTES in plain:
        # A note is never worth a result.
        plain[NOTES] = "<left out: %d bytes>" % len(json.dumps(plain[NOTES]))
        data = json.dumps(plain).encode()
    if len(data) > limit:
        words = "the result is %d bytes long, more than the limit of %d" % (len(data), limit)
        raise _Refused("RESULT_INVALID", words)
    try:
        _write_bytes(folder, "result.json", data)
    except OSError as error:
        raise _Refused("NODE_FAIL", "the result cannot be written: " + _one_line(error)) from error


def _plain_result(value: object) -> Any:
    """The returned value as JSON values; the core decides whether it is valid.

    Only the core knows which metrics are needed: a value that is no metric is passed on as text.
    """
    if not isinstance(value, Mapping):
        return _plain_metric(value, "the function returned")
    plain = {}
    for name, item in value.items():
        if not isinstance(name, str):
            plain[_cut(str(name))] = "<its name is no str>"
        elif name == NOTES:
            plain[NOTES] = _plain_notes(item)
        else:
            plain[str(name)] = _plain_extra(item)
    return plain


def _plain_extra(value: object) -> Any:
    if isinstance(value, str):
        return _cut(value)
    try:
        return _plain_metric(value, "")
    except _Refused:
        size = " of %d items" % len(value) if isinstance(value, (tuple, list, dict)) else ""
        return "<%s%s>" % (_kind(value), size)
    except Exception as error:  # noqa: BLE001 - anything that a user's object raises
        return "<%s: %s>" % (_kind(value), _one_line(error))


def _cut(text: str) -> str:
    return text[:100] + "..." if len(text) > 103 else text


def _plain_notes(value: Any) -> Any:
    try:
        plain = _plain_note(value)
        json.dumps(plain)
    except Exception:  # noqa: BLE001 - a circle, or anything that a user's object raises
        return repr(value)
    return plain


def _plain_note(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else str(key): _plain_note(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain_note(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return value.tolist() if hasattr(value, "tolist") else str(value)  # NumPy, torch and JAX


def _plain_metric(value: object, what: str) -> Any:
    if isinstance(value, Mapping) and set(value) <= {"mean", "sem"}:
        return {str(name): _plain_number(item, what) for name, item in value.items()}
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return [_plain_number(item, what) for item in value]
    return _plain_number(value, what)


def _plain_number(value: object, what: str) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()  # NumPy, torch and JAX scalars
    if (value is None and what != "the function returned") or isinstance(value, (int, float)):
        return value
    if isinstance(value, numbers.Real):
        return float(value)
    raise _Refused(
        "RESULT_INVALID", "%s %s, which is no metric; %s" % (what, _kind(value), _RETURN)
    )


def _kind(value: object) -> str:
    kind = type(value).__name__
    if getattr(value, "shape", None):
        kind += " of shape %s" % (tuple(value.shape),)  # type: ignore[attr-defined]
    return kind


# ---------------------------------------------------------------- intermediate results


def report(step: float, **metrics: Any) -> None:
    """Report intermediate results of the job that runs here; outside a job this does nothing.

    Each call appends one line to the file that ``$AXSCHED_PROGRESS_FILE`` names. The driver reads
    it while the job runs: the values reach Ax as the trial's progression, and early stopping.

    Args:
        step: how far the evaluation is, such as the number of the epoch; it grows.
        **metrics: name -> value: a number, ``(mean, sem)`` or ``{"mean": ..., "sem": ...}``. The
            driver leaves out a value that is no finite number, and says so once.

    Never raises because of a value, or of a file that cannot be written.

    Example:
        >>> for epoch in range(100):
        ...     report(step=epoch, loss=0.5)
    """
    path = getattr(_this_thread(), "progress", "") or os.environ.get("AXSCHED_PROGRESS_FILE")
    if not path:
        return
    line = {"step": _plain_extra(step)}
    line.update((name, _plain_extra(value)) for name, value in metrics.items())
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        _say("axsched: an intermediate result cannot be written: %s\n" % error, sys.stderr)


def _this_thread() -> Any:
    """Data about the job of this thread. All copies of this file in one process share it: the
    function may report with the copy that is installed, and run by another one."""
    import threading
    import types

    shared: Any = sys.modules.setdefault("_axsched_job", types.ModuleType("_axsched_job"))
    return shared.__dict__.setdefault("thread", threading.local())


class _Report:
    """Finds ``axsched_core`` in a Python that lacks it: a module that holds only `report`."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Any:
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, _Report()) if name == "axsched_core" else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> None:
        """Python makes an ordinary one."""

    def exec_module(self, module: Any) -> None:
        module.report = report


def _provide_report() -> None:
    """Make ``from axsched_core import report`` work for a function, also if it is not installed."""
    if not any(getattr(finder, "__name__", "") == "_Report" for finder in sys.meta_path):
        sys.meta_path.append(_Report)  # last: an installed package comes first


# ---------------------------------------------------------------- files


class NotAFile(OSError):
    """The path holds something that must not be opened as a file; the message says what it is."""


def read_file(name: str, limit: int, offset: int = 0, dir_fd: Optional[int] = None) -> bytes:
    """Read a part of a file that a job may have made, or replaced by something else.

    Never waits (a FIFO), follows no link, and touches no device.

    Args:
        name: the file; one component if ``dir_fd`` is given.
        limit: the most bytes to read.
        offset: bytes to skip.
        dir_fd: descriptor of the folder that holds the file.

    Raises:
        FileNotFoundError: there is none.
        NotAFile: it is not a regular file, or has a second name (a hard link).
        OSError: it cannot be read.
    """
    # The check before prevents touching a device; the check after detects a later replacement.
    check_regular(os.stat(name, dir_fd=dir_fd, follow_symlinks=False), name)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
    try:
        descriptor = os.open(name, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotAFile(errno.EINVAL, "it is no regular file", name) from None
        raise
    try:
        check_regular(os.fstat(descriptor), name)
        pieces = []
        while limit > 0:
            piece = os.pread(descriptor, min(limit, 1 << 20), offset)
            if not piece:
                break
            pieces.append(piece)
            limit, offset = limit - len(piece), offset + len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def check_regular(found: os.stat_result, name: str) -> None:
    """Raise `NotAFile` unless this is a regular file with one name.

    Args:
        found: the answer of ``lstat`` or ``fstat``.
        name: the file's, for the error.
    """
    if not stat.S_ISREG(found.st_mode):
        kind = {
            stat.S_IFDIR: "a folder",
            stat.S_IFLNK: "a symbolic link",
            stat.S_IFIFO: "a FIFO",
            stat.S_IFSOCK: "a socket",
        }.get(stat.S_IFMT(found.st_mode), "a device")
        raise NotAFile(errno.EINVAL, "it is %s, not a regular file" % kind, name)
    if found.st_nlink > 1:
        raise NotAFile(errno.EINVAL, "it has a second name (a hard link)", name)


def replace_file(name: str, data: bytes, dir_fd: Optional[int] = None, sync: bool = False) -> None:
    """Write a file next to its place and move it there, so that no reader sees half of it.

    Anything already there is never opened. A folder is renamed, to a name that begins the same.

    Args:
        name: the file; one component if ``dir_fd`` is given.
        data: its content.
        dir_fd: descriptor of the folder that holds the file.
        sync: True: it is on disk before it gets its name.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    # A job could put a link at a name that it can predict.
    beside = "%s.%s.tmp" % (name, os.urandom(8).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(beside, flags, 0o666, dir_fd=dir_fd)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(descriptor)
        try:
            os.replace(beside, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except IsADirectoryError:
            aside = "%s.%s.aside" % (name, os.urandom(8).hex())
            os.rename(name, aside, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            os.replace(beside, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        try:
            os.unlink(beside, dir_fd=dir_fd)
        except FileNotFoundError:
            pass
        raise


_held: dict[str, int] = {}
"""Descriptors of jobs' folders, by path."""


def _hold(folder: str) -> None:
    """Keep a job's folder open, so that it can be moved while the job runs."""
    _held[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _place(folder: str, make: bool) -> int:
    """A descriptor of a job's folder, at its present place; the caller must close it.

    Args:
        folder: its path when the job began.
        make: if the job has removed its folder, or replaced it by a link, make it again.

    Raises:
        OSError: there is none.
    """
    try:
        there: Optional[os.stat_result] = os.lstat(folder)
    except FileNotFoundError:
        there = None
    try:
        held = os.dup(_held[folder])
        found = os.fstat(held)
        if os.path.samestat(found, there) if there is not None else found.st_nlink > 0:
            if make and found.st_mode & 0o700 != 0o700:
                os.fchmod(held, 0o700)
            return held
        os.close(held)
    except (KeyError, OSError):  # the user's code may have closed what it did not open
        pass
    if make and (there is None or not stat.S_ISDIR(there.st_mode)):
        if there is not None:
            os.rename(folder, "%s.%s.aside" % (folder, os.urandom(8).hex()))
        os.mkdir(folder, 0o700)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _exists(folder: str, name: str) -> bool:
    """True if the folder has anything with this name."""
    try:
        place = _place(folder, make=False)
    except OSError:
        return False
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(place)
    return True


def _open_log(folder: str, name: str) -> int:
    """Open a log of the job for appending; only a regular file is ever written to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    place = _place(folder, make=True)
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=place)
    finally:
        os.close(place)
    try:
        check_regular(os.fstat(descriptor), name)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(folder: str, name: str, limit: int) -> bytes:
    """Read a file of the folder: see `read_file`."""
    place = _place(folder, make=False)
    try:
        return read_file(name, limit, dir_fd=place)
    finally:
        os.close(place)


def _read_json(folder: str, name: str) -> Any:
    """Read a JSON file of the folder; None if it is missing, torn, too long, or not a file."""
    try:
        data = _read(folder, name, JSON_LIMIT + 1)
        return json.loads(data.decode("utf-8")) if len(data) <= JSON_LIMIT else None
    except (FileNotFoundError, NotADirectoryError, PermissionError, NotAFile):
        return None
    except (ValueError, RecursionError):
        return None


def _write_json(folder: str, name: str, data: object) -> None:
    _write_bytes(folder, name, json.dumps(data).encode())


def _remove(folder: str, name: str) -> None:
    """Remove a file of the folder, if it is there."""
    try:
        place = _place(folder, make=False)
        try:
            os.unlink(name, dir_fd=place)
        finally:
            os.close(place)
    except OSError:  # there is none; if it cannot be removed, exit.json is what counts
        return


def _write_pid(folder: str, **more: float) -> None:
    data = dict(identity(), **more)
    _write_bytes(folder, "pid.json", json.dumps(data).encode().ljust(RESERVE))


def _touch(folder: str, name: str) -> None:
    """Give a file of the folder the time of now, if it is there."""
    try:
        place = _place(folder, make=False)
    except OSError:
        return
    try:
        os.utime(name, dir_fd=place, follow_symlinks=False)
    except OSError:
        pass  # the job has removed it
    finally:
        os.close(place)


def _write_bytes(folder: str, name: str, data: bytes) -> None:
    """Write a file of the folder: see `replace_file`."""
    place = _place(folder, make=True)
    try:
        replace_file(name, data, dir_fd=place)
    finally:
        os.close(place)


# ---------------------------------------------------------------- the command


def _stay(folder: str) -> int:
    """Wait for the process that has claimed the job, so that the backend still knows the job.

    A batch system that has forgotten a start makes another one next to the first.
    """
    if _taken_back(folder) or not wait_for_owner(folder):
        return NOT_MINE
    return NOT_MINE if _exists(folder, "exit.json") else OWNER_GONE


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; return its exit code."""
    import argparse

    parser = argparse.ArgumentParser(description="Run one axsched job from its folder.")
    parser.add_argument("folder")
    parser.add_argument("--restart", type=int, default=0, metavar="N")
    parser.add_argument(
        "--detach",
        action="store_true",
        help="continue in the background; stdout stays open and empty until the job has ended",
    )
    parser.add_argument(
        "--stay",
        action="store_true",
        help="if another process of this machine runs the job, end when it does",
    )
    options = parser.parse_args(argv)
    if not options.detach:
        code = run(options.folder, options.restart)
        return _stay(options.folder) if options.stay and code == NOT_MINE else code
    folder = os.path.abspath(options.folder)
    _run_detached(folder, options.restart, keep=os.dup(1))


if __name__ == "__main__":
    sys.exit(main())
elif __name__ == "__mp_main__":  # see _become_main
    globals().update(_unpickle(os.path.dirname(__file__))[1], __name__=__name__)
