"""The tutorial quotes the template as it is, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from axsched_core.cli.new_runner import template_files
from axsched_core.testing import RunnerConformance

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "examples" / "runner_template"
TUTORIAL = (ROOT / "docs" / "writing_a_runner.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
FILES = {file: (TEMPLATE / file).read_text(encoding="utf-8") for file in template_files(TEMPLATE)}


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind != "sh"])
def test_each_quoted_block_stands_in_the_template(block):
    # Whole lines: a quotation neither begins nor ends within one.
    assert any(f"\n{block}" in f"\n{text}" for text in FILES.values()), block


def test_every_block_is_of_a_kind_that_is_checked():
    assert {kind for kind, _ in BLOCKS} == {"python", "toml", "sh"}
    assert len(BLOCKS) > 10


def test_most_of_the_runner_is_quoted():
    quoted = {line for _, text in BLOCKS for line in text.splitlines() if line.strip()}
    runner = FILES[Path("axsched_robot/runner.py")]
    body = [line for line in runner[runner.index("STATES") :].splitlines() if line.strip()]
    assert sum(line in quoted for line in body) > 0.8 * len(body)


def test_the_commands_are_those_that_new_runner_prints():
    source = (ROOT / "axsched_core" / "cli" / "new_runner.py").read_text(encoding="utf-8")
    first = next(text for kind, text in BLOCKS if kind == "sh").splitlines()
    assert first[:2] == ["axsched new-runner NAME", "cd axsched-NAME"]
    for command in first[2:]:
        assert f"'  {command}'" in source or f'"  {command}"' in source, command


def test_its_numbers_and_links_are_right():
    (lines,) = re.findall(r"(\d+) lines of runner", TUTORIAL)
    runner = [text for file, text in FILES.items() if file.match("axsched_robot/*.py")]
    assert int(lines) == sum(len(text.splitlines()) for text in runner)
    for link in re.findall(r"\]\(([^)#]+)\)", TUTORIAL):
        assert (ROOT / "docs" / link).exists(), link


def test_the_fixtures_that_it_names_are_the_kits():
    table = TUTORIAL.split("| fixture |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert named == {name for name in named if hasattr(RunnerConformance, name)}
    conformance = FILES[Path("tests/test_conformance.py")]
    served = set(re.findall(r"@pytest.fixture\n    def (\w+)", conformance))
    assert named == served - {"runner_options"}
