"""`axsched watch`: its frames, its plot, and that it ends with the run."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from axsched_core.cli.watch import ASCII_BARS, BARS, PLOT, plot, running_best
from axsched_core.journal import lines
from axsched_core.journal.lock import RunLock
from axsched_core.journal.view import Run
from support.command_line import axsched, failure, job, success, trial, write_journal

COMMAND = [sys.executable, "-m", "axsched_core.cli.main"]


def several(run: Path) -> Path:
    """Trials of all kinds."""
    waits = {"k": "waiting", "t": 9.0, "i": 3, "n": 1, "message": "QOSMaxJobs"}
    done = [
        line
        for i, loss in enumerate((3.0, 4.0))
        for line in (trial(i, x=float(i)), *job(i), *success(i, t=20.0 + i, loss=loss))
    ]
    failed = [trial(2, x=2.0), *job(2), *failure(2, "EXIT_CODE", "exit code 3")]
    queued = [trial(3, x=3.0), *job(3), {**waits, "remedy": "ask for more"}]
    return write_journal(run, *done, *failed, *queued, trial(4, x=4.0), *job(4), trial(5, x=5.0))


def test_one_frame(tmp_path: Path):
    result = axsched("watch", several(tmp_path / "r"), "--once")
    assert result.exit_code == 0, result.output
    shown = result.stdout
    assert shown.startswith("r: interrupted\n")
    words = "2 of 6 trials have a result, 1 failed, 1 running, 1 queued, 1 waiting for a place"
    assert words in shown
    assert "Best loss = 3, trial 0\n  at x=0" in shown
    assert f"  3 {BARS[0] * 2} 3\n" in shown
    assert "Running\n  trial 4  for " in shown
    assert "on node-1  x=4" in shown
    assert "Queued\n  trial 3  QOSMaxJobs  To do: ask for more\n" in shown
    assert "Failed: 1 x EXIT_CODE\n  trial 2  EXIT_CODE: exit code 3\n" in shown
    assert f"To go on: axsched resume {tmp_path / 'r'}" in shown


def test_long_lists_are_cut(tmp_path: Path):
    run = write_journal(tmp_path / "r", *[line for i in range(20) for line in (trial(i), *job(i))])
    shown = axsched("watch", run, "--once").stdout
    assert shown.count("  trial ") == 8
    assert "  and 12 more\n" in shown


def test_without_a_driver_it_ends_at_once(tmp_path: Path):
    assert axsched("watch", several(tmp_path / "r")).stdout.count("r: interrupted") == 1


@pytest.mark.parametrize(("minimize", "expected"), [(True, [3, 3, 1]), (False, [3, 5, 5])])
def test_the_running_best(tmp_path: Path, minimize: bool, expected: list[float]):
    given = {0: (30.0, 1.0), 1: (10.0, 3.0), 2: (20.0, 5.0)}  # index -> (when it ended, loss)
    ended = [
        line for i, (t, loss) in given.items() for line in (trial(i), *success(i, t, loss=loss)[1:])
    ]
    run = Run(write_journal(tmp_path / "r", *ended))
    path = run.path / lines.NAME
    if not minimize:
        path.write_text(path.read_text().replace('"minimize": true', '"minimize": false'))
    run.look()
    assert running_best(run) == expected


@pytest.mark.parametrize("bars", [BARS, ASCII_BARS])
def test_the_plot(bars: str):
    assert plot([8.0, 4.5, 1.0], bars) == bars[7] + bars[4] + bars[0]
    assert plot([2.0, 2.0], bars) == bars[0] * 2
    many = plot([float(value) for value in range(1000, 0, -1)], bars)
    assert len(many) == PLOT
    assert (many[0], many[-1]) == (bars[7], bars[0])
    assert plot([5.0] * 999 + [1.0], bars) == bars[7] * (PLOT - 1) + bars[0]


def test_frames_follow_the_run_to_its_end(tmp_path: Path):
    run = write_journal(tmp_path / "r", trial(0, x=1.0), *job(0))
    lock = RunLock(run)
    lock.acquire()
    watcher = subprocess.Popen(
        [*COMMAND, "watch", "--every", "0.1", str(run)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert "running, on " in watcher.stdout.readline()
        assert "0 of 1 trial have a result, 1 running" in watcher.stdout.readline()
        with (run / lines.NAME).open("a") as file:
            write_journal(tmp_path / "more", *success(0, loss=0.5))
            more = (tmp_path / "more" / lines.NAME).read_text().splitlines(keepends=True)
            file.writelines(more[1:])
        while "loss = 0.5" not in (line := watcher.stdout.readline()):
            assert line, "it ended before it showed the result"
        lock.release()
        assert "r: finished\n" in watcher.stdout.read()
        assert watcher.wait(20) == 0
    finally:
        watcher.kill()
        lock.release()


def in_terminal(*arguments: str, **more: str) -> subprocess.Popen[bytes]:
    """A command on a terminal of its own; ``.terminal`` reads what it shows."""
    ours, its = pty.openpty()
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    env = {**plain, "TERM": "xterm-256color", **more}
    started = subprocess.Popen([*COMMAND, *arguments], stdin=its, stdout=its, stderr=its, env=env)
    os.close(its)
    started.terminal = ours
    return started


def shown_by(started: subprocess.Popen[bytes], until: str | None = None) -> str:
    """What a terminal shows, up to a text, or to the end."""
    found = b""
    while until is None or until.encode() not in found:
        try:
            data = os.read(started.terminal, 65536)
        except OSError:  # Linux: the other side was closed
            data = b""
        if not data:
            break
        found += data
    return found.decode()


@pytest.mark.parametrize("command", ["status", "trials", "watch"])
def test_colours_only_in_a_terminal_that_wants_them(tmp_path: Path, command: str):
    run = str(several(tmp_path / "r"))
    colour = ("\x1b[3", "\x1b[9")
    assert any(one in shown_by(in_terminal(command, run)) for one in colour)
    assert not any(one in shown_by(in_terminal(command, run, NO_COLOR="1")) for one in colour)
    piped = subprocess.run([*COMMAND, command, run], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout


def test_ctrl_c_ends_the_watching_and_gives_the_terminal_back(tmp_path: Path):
    run = several(tmp_path / "r")
    lock = RunLock(run)
    lock.acquire()
    watcher = in_terminal("watch", str(run))
    try:
        shown_by(watcher, until="Failed")
        watcher.send_signal(signal.SIGINT)
        rest = shown_by(watcher)
        assert watcher.wait(20) == 130
        assert "Traceback" not in rest
        assert "\x1b[?25h" in rest  # the cursor is back
    finally:
        watcher.kill()
        os.close(watcher.terminal)
        lock.release()
