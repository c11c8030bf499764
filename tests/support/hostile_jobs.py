"""What a hostile, or only a careless, job leaves in its folder; and the expected outcome."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from axsched_core.jobs import JobResult, JobState, NotReady, Objective
from axsched_core.testing import Bench
from support.path_audit import paths_below_jobs

RESULT = '{"loss": 0.25}'
WRITE = f"echo '{RESULT}' > \"$AXSCHED_RESULT_FILE\"; "


@attrs.frozen
class Case:
    """One job: shell commands, which run in its folder with ``$V`` for the victim's."""

    name: str
    command: str
    words: str | None = None
    """None: the result counts. Otherwise only this trial fails, and its message contains this."""


def _beside(name: str, command: str) -> Case:
    return Case(name, WRITE + command)


COUNT = (
    _beside("a link out", 'ln -s "$V" out; ln -s "$V/secret" file; ln -s ../../.. up'),
    _beside("a link to the root", "ln -s / root; ln -s /etc etc"),
    _beside("links to the inputs", "ln -s axsched_worker.py exit.json.tmp; ln -s function.pkl x"),
    _beside("a link for a log", 'rm -f stdout.log stderr.log; ln -s "$V/secret" stdout.log'),
    _beside("a folder for a log", "rm -f stdout.log stderr.log; mkdir -p stdout.log/x stderr.log"),
    _beside("a FIFO for a log", "rm -f stdout.log stderr.log; mkfifo stdout.log stderr.log"),
    _beside("no logs", "rm -f stdout.log stderr.log"),
    _beside("a folder for the exit file", "mkdir exit.json; touch exit.json/x"),
    _beside("a FIFO for the exit file", "mkfifo exit.json"),
    _beside("a link for the exit file", 'ln -s "$V/secret" exit.json'),
    _beside("a FIFO for progress", "mkfifo progress.jsonl"),
    _beside("a link for progress", 'ln -s "$V/secret" progress.jsonl'),
    _beside("huge progress", "truncate -s 256M progress.jsonl"),
    _beside("a sparse file", "truncate -s 256M big"),
    _beside("a huge log", "truncate -s 256M stdout.log"),
    _beside("FIFOs", "mkfifo a b; mkdir d; mkfifo d/c"),
    _beside("hard links", "mkdir a; touch a/x; ln -s x a/l; cp -al a b"),
    _beside("a copy of all by links", "mkdir b; touch x; ln x y; ln x b/z"),
    _beside("deep folders", "i=0; while [ $i -lt 400 ]; do mkdir d; cd d; i=$((i+1)); done"),
    _beside("a long name", "touch $(printf 'n%.0s' $(seq 255))"),
    _beside("names that are not UTF-8", "touch $(printf 'a\\377b'); mkdir $(printf '\\376')"),
    _beside("a name with a line end", "touch \"$(printf 'a\\nb')\""),
    _beside("locked folders", "mkdir -p m/n; touch m/n/x; chmod 000 m/n; chmod 000 m"),
    _beside("set-user-id", "cp /bin/sh s; chmod 6755 s; mkdir -p d; cp /bin/sh d; chmod 4755 d/sh"),
    _beside("no pid file", "rm -f pid.json; mkfifo pid.json"),
    _beside("a folder for the pid file", "rm -f pid.json; mkdir -p pid.json/x"),
)
"""Cases with a valid result: it counts with any other files."""

FAIL = (
    Case("a FIFO for the result", "mkfifo result.json", "FIFO"),
    Case("a folder for the result", "mkdir result.json", "folder"),
    Case("a link for the result", 'ln -s "$V/result.json" result.json', "symbolic link"),
    Case("a huge result", "truncate -s 256M result.json", "max_result_bytes"),
    Case("a link to nowhere", "ln -s nowhere result.json", "symbolic link"),
    Case("nothing", "true", "no result.json"),
    Case("no folder", 'cd /; rm -rf "$AXSCHED_JOB_DIR"', "no result.json"),
    Case(
        "a link for the folder",
        'cd /; rm -rf "$AXSCHED_JOB_DIR"; ln -s "$V" "$AXSCHED_JOB_DIR"',
        "no result.json",
    ),
)
"""Cases without a valid result; the last two leave nothing at all."""

CASES = (*COUNT, *FAIL)


def make_victim(folder: Path) -> Path:
    """A tree that nothing may touch; links in it are absolute, as in /etc."""
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "secret").write_text("secret\n")
    (folder / "result.json").write_text('{"loss": 666}')
    (folder / "d" / "e" / "file").write_text("x")
    (folder / "d" / "absolute").symlink_to(folder / "secret")
    (folder / "absolute").symlink_to("/nowhere/at/all")
    return folder


def digest(*folders: Path) -> str:
    """A digest that changes with these trees: names, kinds, modes, content, links."""
    seen = hashlib.sha256()
    for top in folders:
        for place, names, files in os.walk(top):
            names.sort()
            for name in sorted((*names, *files)):
                if name == "__pycache__" or name.endswith(".pyc"):
                    continue
                path = Path(place, name)
                found = path.lstat()
                seen.update(f"{path.relative_to(top)!a} {found.st_mode:o}".encode())
                if stat.S_ISREG(found.st_mode):
                    seen.update(path.read_bytes())
                elif stat.S_ISLNK(found.st_mode):
                    seen.update(os.fsencode(os.readlink(path)))
    return seen.hexdigest()


def special(folder: Path) -> list[str]:
    """Entries of a tree that are not a file, a folder or an inner link, or that have a special
    bit."""
    found = []
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                to = os.readlink(path)
                wrong = to.startswith("/") or ".." in to.split("/")
            else:
                wrong = not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or bool(mode & 0o7000)
            if wrong:
                found.append(str(path))
    return found


class Attack:
    """All cases, each as a job of one bench, when all have ended.

    Args:
        bench: where they run.
        victim: what nothing may touch.
        packages: nor these.
        objective: makes a case's objective from its shell commands.
    """

    def __init__(
        self,
        bench: Bench,
        victim: Path,
        packages: Sequence[Path],
        objective: Callable[[tuple[str, ...]], Objective],
        enters: str = "",
    ) -> None:
        self.bench, self.victim, self.packages = bench, victim, packages
        self.before = digest(victim, *packages)
        self.handles = {
            case: bench.start({"x": 1}, objective=objective(_words(case, victim, enters)))
            for case in CASES
        }
        handles = list(self.handles.values())
        with paths_below_jobs(bench.run_dir) as self.paths:
            self.statuses = bench.wait(handles)
            bench.session.fetch_results(handles)
            bench.session.read_progress(handles, {handle.key: 0 for handle in handles})
            for handle in handles:
                bench.session.read_log(handle, "stdout", 0, 100)

    def touches_nothing(self) -> bool:
        """True if all that it must not touch is as before."""
        return digest(self.victim, *self.packages) == self.before

    def result_of(self, case: Case) -> JobResult | NotReady:
        """What the runner fetches for a case, after checks of what all cases share."""
        handle = self.handles[case]
        assert self.statuses[handle.key].state is JobState.SUCCEEDED, self.statuses[handle.key]
        result = self.bench.session.fetch_results([handle])[handle.key]
        if case.words is None:
            assert result == JobResult(raw=f"{RESULT}\n".encode())
        elif case.words == "max_result_bytes":
            assert isinstance(result, JobResult)
            assert len(result.raw or b"") == 200_001
        else:
            assert isinstance(result, NotReady)
        for stream in ("stdout", "stderr"):
            assert b"secret" not in self.bench.session.read_log(handle, stream, 0, 1000)
        return result


def _words(case: Case, victim: Path, enters: str) -> tuple[str, ...]:
    return ("sh", "-c", f"V={victim}; {enters}{case.command}; true")
