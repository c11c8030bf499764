"""Which run a word on the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from axsched_core.cli.run_argument import run_named, run_or_newest
from axsched_core.errors import InvalidInput
from axsched_core.journal import lines
from support.command_line import axsched, document, trial, write_journal

FIRST, SECOND = "first-20260101-120000-0123456789", "second-20260102-120000-ab23456789"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is one with two runs in ./outputs; `SECOND` began last."""
    monkeypatch.chdir(tmp_path)
    for name, began in ((FIRST, 1000.5), (SECOND, 2000.5)):
        path = write_journal(tmp_path / "outputs" / name, trial(0, x=1.0)) / lines.NAME
        text = path.read_text().replace("0123456789", name[-10:])
        path.write_text(text.replace('"t": 5.0', f'"t": {began}', 1))
    return tmp_path / "outputs"


def test_the_newest_is_the_default(outputs: Path):
    assert run_or_newest(None) == Path("outputs") / SECOND
    assert document("status")["path"] == str(outputs / SECOND)
    assert SECOND in axsched("show", 0).stdout


@pytest.mark.parametrize("word", ["f", "first", FIRST, "0123", f"outputs/{FIRST}", "outputs/fir"])
def test_what_means_the_first_run(outputs: Path, word: str):
    assert run_named(word).absolute() == outputs / FIRST


def test_an_absolute_path(outputs: Path):
    assert run_named(str(outputs / FIRST)) == outputs / FIRST


def test_what_several_runs_begin_with_is_refused(outputs: Path):
    write_journal(outputs / "fire")
    with pytest.raises(InvalidInput, match="is the beginning of 2 runs") as error:
        run_named("fir")
    assert f"  {FIRST}\n  fire" in str(error.value)
    assert run_named("fire") == Path("outputs/fire")


def test_a_whole_name_wins_over_longer_ones(outputs: Path):
    write_journal(outputs / "same")
    write_journal(outputs / "same-but-longer")
    assert run_named("same") == Path("outputs/same")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("third", "There is no run 'third'"),
        ("outputs/third", "is not a run directory"),
        ("outputs", "holds 2 of them. The newest is " + SECOND),
        ("", "The name of the run is empty"),
        ("012", "There is no run '012'"),  # it looks like the index of a trial
    ],
)
def test_what_means_no_run(outputs: Path, word: str, said: str):
    with pytest.raises(InvalidInput, match=said.replace("(", r"\(")):
        run_named(word)
    result = axsched("trials", word)
    assert result.exit_code == 1
    assert said in result.stderr


def test_no_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for command in (["status"], ["trials"], ["watch"], ["show", 0], ["logs", 0]):
        result = axsched(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "There is no run in ./outputs." in result.stderr


@pytest.mark.parametrize("command", ["resume", "cancel", "clean", "salvage"])
def test_who_changes_a_run_must_name_it(outputs: Path, command: str):
    result = axsched(command)
    assert result.exit_code == 2
    assert f"The newest run here is outputs/{SECOND}: name it" in result.stderr
    assert [path.name for path in (outputs / SECOND).iterdir()] == [lines.NAME]


def test_the_index_of_a_trial_is_no_run(outputs: Path):
    write_journal(outputs / "3d-print", trial(7, x=1.0))
    result = axsched("cancel", 3, 7)
    assert result.exit_code == 1
    assert "There is no run '3'" in result.stderr
    assert run_named("3d") == Path("outputs/3d-print")


def test_who_changes_a_run_says_which_one_was_meant(outputs: Path):
    result = axsched("salvage", "sec")
    assert f"Run: outputs/{SECOND}\n" in result.stderr
    assert "not damaged" in result.stderr
    assert "Run: " not in axsched("salvage", f"outputs/{SECOND}").stderr


def test_a_run_with_a_damaged_first_line_counts_by_its_file_s_time(outputs: Path):
    damaged = outputs / "damaged"
    damaged.mkdir()
    (damaged / lines.NAME).write_text("{\n")
    assert run_or_newest(None) == Path("outputs/damaged")
