"""The reference is what the code says, and the code says everything."""

from __future__ import annotations

import gc
import importlib.util
import re
from pathlib import Path

import attrs
import pytest

from axsched_core import config, errors, events, hookspecs, jobs

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(events.__file__).parent
SPECS = (hookspecs.DiscoverySpec, hookspecs.RunnerSpec, hookspecs.ObserverSpec)
HOOKS = [(spec, name) for spec in SPECS for name in hookspecs.hook_names(spec)]


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(maker):
    assert maker.PAGE.read_text() == maker.page(), "run: python docs/make_reference.py"


@pytest.mark.parametrize(("spec", "name"), HOOKS, ids=[f"{s.__name__}.{n}" for s, n in HOOKS])
def test_every_hook_says_when_by_whom_and_what_it_may_raise(spec, name):
    text = vars(spec)[name].__doc__
    for word in ("Called: ", "Thread: ", "Raises: ", "Example:\n"):
        assert word in text, f"{name} lacks {word!r}"
    assert f"def {name}(" in text.partition("Example:")[2]


@pytest.mark.parametrize("cls", [config.SchedulerConfig, config.ScriptOptions])
def test_every_setting_is_documented(maker, cls):
    assert {one.name for one in attrs.fields(cls)} == set(maker.field_docs(cls))


def test_every_error_and_value_is_documented(maker):
    for one in (*maker.error_types(), *maker.event_types(), *maker.value_types()):
        assert one.__doc__, one
        assert not one.__doc__.startswith(f"{one.__name__}("), f"{one}: attrs made this up"
    exceptions = [one for one in vars(errors).values() if isinstance(one, type)]
    exceptions = [one for one in exceptions if issubclass(one, BaseException)]
    assert maker.error_types() == exceptions
    assert jobs.JobRequest in maker.value_types()


def test_every_event_and_its_fields_are_documented(maker):
    assert events.TrialEnded in maker.event_types()
    for one in maker.event_types():
        assert {field.name for field in attrs.fields(one)} == set(maker.field_docs(one)), one


def leaves(cls):
    """The classes that are sent: those that nothing else is derived from."""
    below = cls.__subclasses__()
    return {leaf for one in below for leaf in leaves(one)} if below else {cls}


def test_the_core_sends_every_event_and_nothing_else():
    gc.collect()  # attrs makes each class twice; the first of the two is garbage
    sent = leaves(events.Event)
    assert {one.__module__ for one in sent} == {events.__name__}
    made = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"\bevents\.(\w+)\(", path.read_text())
    }
    assert made == {one.__name__ for one in sent}


def test_every_setting_stands_in_the_readme():
    readme = (DOCS.parent / "README.md").read_text()
    for one in attrs.fields(config.SchedulerConfig):
        assert re.search(rf"`{one.name}`", readme), f"README.md does not mention {one.name}"


def test_links_lead_somewhere():
    for page in (
        DOCS.parent / "README.md",
        *DOCS.glob("*.md"),
        *DOCS.parent.glob("plugins/*/*.md"),
    ):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
