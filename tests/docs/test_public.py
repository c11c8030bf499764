"""What plugins, the template, examples and pages use of the core is public and documented."""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("plugins", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if not {"build", "dist", ".venv"} & set(path.relative_to(ROOT).parts)
)
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "writing_a_runner.md",
    *sorted(ROOT.glob("plugins/*/README.md")),
    ROOT / "examples" / "runner_template" / "README.md",
]


@pytest.fixture(scope="module")
def maker():
    path = ROOT / "docs" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def documented(maker) -> set[str]:
    """All that the reference documents, as ``axsched_core.module.name``."""
    return {f"{one}.{name}" for one in maker.public_modules() for name in maker.public_names(one)}


def used(source: str) -> Iterator[str]:
    """What a piece of Python takes from the core, as ``axsched_core.module.name``."""
    tree = ast.parse(source)
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_core(node.module or ""):
            for one in node.names:
                bound[one.asname or one.name] = f"{node.module}.{one.name}"
                yield f"{node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            for one in filter(lambda alias: _is_core(alias.name), node.names):
                bound[one.asname or "axsched_core"] = one.name if one.asname else "axsched_core"
                yield one.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, *rest = ast.unparse(node).split(".")
            if root in bound and all(name.isidentifier() for name in rest):
                yield ".".join([bound[root], *rest])


def _is_core(module: str) -> bool:
    return module.split(".")[0] == "axsched_core"


def not_public(names: Iterator[str], documented: set[str], modules: list[str]) -> list[str]:
    """The names that are no public module, not documented, and no part of a documented class."""

    def is_public(name: str) -> bool:
        parts = name.split(".")
        beginnings = {".".join(parts[:end]) for end in range(2, len(parts) + 1)}
        return name in modules or bool(beginnings & documented)

    return sorted({name for name in names if not is_public(name)})


def test_every_public_name_has_a_docstring(maker):
    assert maker.undocumented() == []


def test_every_public_name_stands_in_its_module_s_section(maker):
    page = "\n" + maker.PAGE.read_text()
    for module in maker.public_modules():
        section = page.split(f"\n## `{module}`\n")[1].split("\n## ")[0]
        for name in maker.public_names(module):
            assert re.search(rf"^(### |\* )`{name}\b", section, re.MULTILINE), f"{module}.{name}"


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_code_uses_only_what_is_documented(path, documented, maker):
    names = used(path.read_text(encoding="utf-8"))
    assert not_public(names, documented, maker.public_modules()) == []


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_pages_use_only_what_is_documented(path, documented, maker):
    text = path.read_text(encoding="utf-8")
    names = set(re.findall(r"\baxsched_core(?:\.\w+)+", text))
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if "axsched_core" in block:
            names |= set(used(textwrap.dedent(block)))
    assert not_public(iter(names), documented, maker.public_modules()) == []


def test_there_is_something_to_scan(documented):
    assert len(SOURCES) > 50
    found = {name for path in SOURCES for name in used(path.read_text(encoding="utf-8"))}
    assert {
        "axsched_core.jobfolder.read_exit",
        "axsched_core.worker.axsched_worker.owner_is_alive",
        "axsched_core.AxScheduler",
    } <= found & documented


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from axsched_core import jobfolder\njobfolder._fill", "axsched_core.jobfolder._fill"),
        ("import axsched_core.options as o\no.nothing", "axsched_core.options.nothing"),
        ("import axsched_core\naxsched_core.run.engine", "axsched_core.run.engine"),
        ("from axsched_core.run.engine import Engine", "axsched_core.run.engine.Engine"),
        ("from axsched_core.runners import discovery as d", "axsched_core.runners.discovery"),
        ("from axsched_core.worker.axsched_worker import GRACE", "worker.axsched_worker.GRACE"),
    ],
)
def test_what_is_private_is_found(source, found, documented, maker):
    (name, *_) = not_public(used(source), documented, maker.public_modules())[-1:]
    assert name.endswith(found)
    fine = "from axsched_core.jobs import JobState\nfrom axsched_core import jobs\n"
    fine += "JobState.LOST.ended, jobs.JobState.LOST"
    assert not_public(used(fine), documented, maker.public_modules()) == []
