"""Write ``docs/reference.md`` from the code: ``python docs/make_reference.py``.

Everything on that page comes from signatures and docstrings; a test fails when the page is not
what this makes of them, or when something has no docstring.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from axsched_core import best, config, errors, hookspecs, jobs, trials

PAGE = Path(__file__).with_name("reference.md")

HEAD = """# Reference

Made from the code by `docs/make_reference.py`; do not edit.

For writing a runner, begin with [the tutorial](writing_a_runner.md); the conformance kit is
`axsched_core.testing`. Why things are as they are: [architecture](architecture.md).

## The version of the contract

`RunnerInfo.api_version` is (major, minor); this core speaks {version}. The minor number grows
when a hook, an argument of a hook, or a field with a default is added: a plugin for an older
minor version works unchanged, since pluggy gives an implementation only the arguments that it
names. The major number grows when an existing plugin could break: a plugin for another major
version is refused, with both remedies (upgrade the plugin, or install a core that speaks its
version); so is one that asks for a newer minor version (upgrade the core). Hooks are removed only
with a major version, after a minor version in which they are called deprecated.

## A job's life

```mermaid
stateDiagram-v2
    [*] --> QUEUED: axsched_submit returns a handle
    QUEUED --> RUNNING: a poll says so, or its pid.json shows
    RUNNING --> QUEUED: requeued by the backend
    RUNNING --> SUCCEEDED: the process ended well and a valid result was fetched
    RUNNING --> FAILED: it failed, or its result is none (RESULT_INVALID)
    QUEUED --> FAILED: refused by the backend later on
    QUEUED --> CANCELLED: cancelled
    RUNNING --> CANCELLED: cancelled
    QUEUED --> LOST: the backend does not know it any more
    RUNNING --> LOST: the same
    LOST --> [*]: a new attempt under a new key, as the setting retry says
    SUCCEEDED --> [*]
    FAILED --> [*]
    CANCELLED --> [*]
```
"""


def sections() -> list[tuple[str, str]]:
    """Title and text of each part of the page."""
    return [
        ("Hooks: discovery", hooks(hookspecs.DiscoverySpec)),
        ("Hooks: the runner", hooks(hookspecs.RunnerSpec)),
        ("Hooks: observers", hooks(hookspecs.ObserverSpec)),
        ("Values that cross the hooks", "\n".join(map(value_type, value_types()))),
        ("Settings: `config`", fields(config.SchedulerConfig)),
        ("Settings: `retry` within `config`", fields(config.RetryPolicy)),
        ("Settings: `script_options`", fields(config.ScriptOptions)),
        ("What a trial shows", "\n".join(map(value_type, (trials.Trial, trials.TrialState)))),
        ("What a run returns", "\n".join(map(value_type, (best.Best, best.Point)))),
        (
            "Errors",
            "All are in `axsched_core.errors`.\n\n"
            + "\n".join(error(one) for one in error_types()),
        ),
    ]


def page() -> str:
    """The whole page."""
    head = HEAD.format(version="{}.{}".format(*jobs.API_VERSION))
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in sections())


def value_types() -> list[type]:
    """The classes of jobs.py, in its order."""
    return [one for one in vars(jobs).values() if _is_from(one, jobs)]


def error_types() -> list[type]:
    """The classes of errors.py, in its order."""
    return [one for one in vars(errors).values() if _is_from(one, errors)]


def _is_from(one: Any, module: ModuleType) -> bool:
    return isinstance(one, type) and one.__module__ == module.__name__


def hooks(spec: type) -> str:
    """All hooks of a specification class."""
    parts = [_doc(spec) + "\n"]
    for name in hookspecs.hook_names(spec):
        function = vars(spec)[name]
        signature = str(inspect.signature(function)).replace("(self, ", "(").replace("(self)", "()")
        parts.append(f"### `{name}`\n\n```python\n{name}{_plain(signature)}\n```\n")
        parts.append(_markdown(_doc(function)) + "\n")
    return "\n".join(parts)


def value_type(cls: type) -> str:
    """An attrs class or an enum."""
    return f"### `{cls.__name__}`\n\n{_doc(cls)}\n\n{fields(cls)}"


def fields(cls: type) -> str:
    """The fields or members of a class, with what their docstrings say."""
    said = field_docs(cls)
    if issubclass(cls, enum.Enum):
        lines = [f"* `{member.name}`{_colon(said.get(member.name))}" for member in cls]
    else:
        # As they are written: resolving them, as others may have done, changes `one.type`.
        types = {k: v for one in _ours(cls) for k, v in one.__annotations__.items()}
        lines = [
            f"* `{one.alias}: {types[one.name]}{_default(one)}`{_colon(said.get(one.name))}"
            for one in attrs.fields(cls)
        ]
    return "\n".join(lines) + "\n"


def field_docs(cls: type) -> dict[str, str]:
    """The strings that stand below the fields of a class and of those that it derives from."""
    return {name: text for one in _ours(cls) for name, text in _own_field_docs(one).items()}


def _ours(cls: type) -> list[type]:
    return [one for one in reversed(cls.__mro__) if one.__module__.startswith("axsched")]


def _own_field_docs(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    said: dict[str, str] = {}
    name = None
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            said[name] = " ".join(str(node.value.value).split())
        else:
            name = None
    return said


def error(cls: type) -> str:
    """One error."""
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    return f"* `{cls.__name__}` ({bases}): {' '.join(_doc(cls).split())}"


def _doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _markdown(text: str) -> str:
    """The sections of a hook's docstring, as Markdown."""
    text, _, example = text.partition("Example:\n")
    text = re.sub(r"^(Called|Thread|Raises): ", r"* **\1**: ", text, flags=re.MULTILINE)
    text = re.sub(r"^    (?=\S)", "  ", text, flags=re.MULTILINE)
    lines = [re.sub(r"^\s*(>>>|\.\.\.) ?", "", line) for line in example.splitlines()]
    return f"{text.strip()}\n\n```python\n" + "\n".join(lines) + "\n```"


def _plain(annotation: str) -> str:
    return re.sub(r"'([^']*)'", r"\1", annotation)


def _default(one: attrs.Attribute[Any]) -> str:
    if one.default is attrs.NOTHING:
        return ""
    if isinstance(one.default, attrs.Factory):  # type: ignore[arg-type]
        return f" = {one.default.factory.__name__}()"
    value = str(one.default) if isinstance(one.default, Path) else one.default
    return f" = {value!r}"


def _colon(text: str | None) -> str:
    return f": {text}" if text else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
