"""Write ``docs/reference.md`` from the code: ``python docs/make_reference.py``.

Everything on that page comes from signatures and docstrings. Tests fail when the page is not what
this makes of them, when a public name has no docstring, and when a plugin, the template or a page
uses a name that is not public.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

import axsched_core
from axsched_core import errors, events, hookspecs, jobs

PAGE = Path(__file__).with_name("reference.md")
PACKAGE = Path(axsched_core.__file__).parent

FIRST = (
    *(
        "hookspecs",
        "jobs",
        "events",
        "jobfolder",
        "simple",
        "options",
        "folders",
        "imports",
        "errors",
    ),
    *("testing", "worker", "worker.axsched_worker"),
    *("scheduler", "past_data", "one_call", "config", "trials", "best"),
)
"""The order of the page; other public modules follow."""

HEAD = """# Reference

Made from the code by `docs/make_reference.py`; do not edit.

For writing a runner, begin with [the tutorial](writing_a_runner.md); the conformance kit is
`axsched_core.testing`. Why things are as they are: [architecture](architecture.md).

## What is public

The modules that lie directly in `axsched_core` are public, and the folders `testing` and `worker`.
All other folders are private: they may change at any time, and no plugin imports them. In a public
module each name without a leading underscore is public (where the module has an `__all__`: each
name in it), with the exception of loggers. All of them stand on this page:

{modules}

## The version of the contract

`RunnerInfo.api_version` is (major, minor); this core speaks {version}. It covers all that stands on
this page. The minor number grows when a hook, an argument of a hook, a public name, or a field or
argument with a default is added: a plugin for an older minor version works unchanged, since pluggy
gives an implementation only the arguments that it names. The major number grows when an existing
plugin could break: a plugin for another major version is refused, with both remedies (upgrade the
plugin, or install a core that speaks its version); so is one that asks for a newer minor version
(upgrade the core). Hooks are removed only with a major version, after a minor version in which they
are called deprecated.

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


def page() -> str:
    """The whole page."""
    made = {name: section(name) for name in public_modules()}
    table = "\n".join(f"* `{name}`: {summary(name)}" for name in made)
    head = HEAD.format(version="{}.{}".format(*jobs.API_VERSION), modules=table)
    return head + "".join(f"\n## `{name}`\n\n{text}" for name, text in made.items())


# ---- what is public --------------------------------------------------------------------------


def public_modules() -> list[str]:
    """The modules whose names plugins and programs may use."""
    found = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    found |= {"testing", "worker", "worker.axsched_worker"}
    order = [name for name in FIRST if name in found] + sorted(found.difference(FIRST))
    return ["axsched_core", *(f"axsched_core.{name}" for name in order)]


def public_names(module: str) -> list[str]:
    """The public names of a module, in the order in which they are defined."""
    loaded, defined = importlib.import_module(module), definitions(module)
    if hasattr(loaded, "__all__"):
        own = [name for name in defined if name in loaded.__all__]
        return own + [name for name in loaded.__all__ if name not in own]
    return [name for name in defined if not name.startswith("_")]


def definitions(module: str) -> dict[str, tuple[ast.stmt, str | None]]:
    """Name -> statement and docstring, for all that a module itself defines; no loggers."""
    found: dict[str, tuple[ast.stmt, str | None]] = {}
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node, ast.get_docstring(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = ast.unparse(node.value) if node.value is not None else ""
            if isinstance(target, ast.Name) and not value.startswith("logging.getLogger"):
                found[target.id] = node, _string(after)
    found.pop("__all__", None)
    return found


def undocumented() -> list[str]:
    """The public names, and public methods of public classes, that have no docstring."""
    missing = []
    for module in public_modules():
        defined = definitions(module)
        for name in public_names(module):
            thing = _of(module, name)
            if isinstance(thing, type):
                node, text = _tree(thing), ast.get_docstring(_tree(thing))
                missing += [
                    f"{module}.{name}.{one.name}"
                    for one in methods(node)
                    if not ast.get_docstring(one) and not inspect.getdoc(getattr(thing, one.name))
                ]
            else:
                text = defined[name][1] if name in defined else home(module, name)
            if not text:
                missing.append(f"{module}.{name}")
    return missing


def home(module: str, name: str) -> str | None:
    """The other public module that defines a name which this one gives too."""
    if name in definitions(module):
        return None
    for other in public_modules():
        if name in definitions(other) and _of(other, name) is _of(module, name):
            return other
    return None


def methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """The public methods of a class; no tests."""
    return [
        one
        for one in node.body
        if isinstance(one, ast.FunctionDef) and not one.name.startswith(("_", "test_"))
    ]


# ---- sections --------------------------------------------------------------------------------


def section(module: str) -> str:
    """All public names of a module."""
    parts = [_said(inspect.getdoc(importlib.import_module(module)) or "") + "\n"]
    defined, constants, others, errors_ = definitions(module), [], [], []
    for name in public_names(module):
        thing = _of(module, name)
        node, text = defined.get(name, (None, None))
        elsewhere = home(module, name)
        if elsewhere is not None:
            constants.append(f"* `{name}`: of `{elsewhere}`")
        elif isinstance(thing, type) and issubclass(thing, BaseException):
            errors_.append(error(thing))
        elif isinstance(thing, type) and _is_spec(thing):
            others.append(f"### `{name}`\n\n{hooks(thing)}")
        elif isinstance(thing, type):
            others.append(value_type(thing))
        elif isinstance(node, ast.FunctionDef):
            others.append(f"### `{name}`\n\n{function(node)}")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            constants.append(f"* `{constant(name, node)}`{_colon(_line(text))}")
    lists = ["\n".join(one) + "\n" for one in (constants, errors_) if one]
    return "\n".join(parts + lists + others)


def summary(module: str) -> str:
    """The first sentence of a module's docstring."""
    text = " ".join((inspect.getdoc(importlib.import_module(module)) or "").split())
    return re.split(r"(?<=[.])\s|:\s", text)[0].rstrip(".")


def value_types() -> list[type]:
    """The classes of jobs.py, in its order."""
    return [one for one in vars(jobs).values() if _is_from(one, jobs)]


def event_types() -> list[type]:
    """The classes of `axsched_core.events`."""
    return [one for one in vars(events).values() if attrs.has(one) and _is_from(one, events)]


def error_types() -> list[type]:
    """The classes of errors.py, in its order."""
    return [one for one in vars(errors).values() if _is_from(one, errors)]


def _is_from(one: Any, module: ModuleType) -> bool:
    return isinstance(one, type) and one.__module__ == module.__name__


def _is_spec(cls: type) -> bool:
    return cls in (hookspecs.DiscoverySpec, hookspecs.RunnerSpec, hookspecs.ObserverSpec)


def _of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def hooks(spec: type) -> str:
    """All hooks of a specification class."""
    parts = [_doc(spec) + "\n"]
    for name in hookspecs.hook_names(spec):
        function = vars(spec)[name]
        signature = str(inspect.signature(function)).replace("(self, ", "(").replace("(self)", "()")
        parts.append(f"#### `{name}`\n\n```python\n{name}{_plain(signature)}\n```\n")
        parts.append(_markdown(_doc(function)) + "\n")
    return "\n".join(parts)


def value_type(cls: type) -> str:
    """A class: what it says of itself, its fields or members, and its methods."""
    node = _tree(cls)
    made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    call = _call(cls.__name__, made[0]) if made else ""
    parts = [f"### `{cls.__name__}`\n", call, _said(_doc(cls)) + "\n", fields(cls)]
    parts += [method(one) for one in methods(node) if ast.get_docstring(one)]
    return "\n".join(part for part in parts if part)


def method(node: ast.FunctionDef) -> str:
    """A method, a property, or a fixture of the kit."""
    how = {ast.unparse(one).split("(")[0] for one in node.decorator_list}
    text = _said(ast.get_docstring(node) or "", "####")
    if "property" in how or "pytest.fixture" in how:
        kind = "a property" if "property" in how else "a fixture"
        gives = f", `{ast.unparse(node.returns)}`" if node.returns else ""
        return f"#### `{node.name}` ({kind}{gives})\n\n{text}\n"
    return f"#### `{node.name}`\n\n{_call(node.name, node)}\n{text}\n"


def function(node: ast.FunctionDef) -> str:
    """A function of a module."""
    return f"{_call(node.name, node)}\n{_said(ast.get_docstring(node) or '')}\n"


def constant(name: str, node: ast.Assign | ast.AnnAssign) -> str:
    """A constant, with its value where that is short."""
    value = ast.unparse(node.value) if node.value is not None else ""
    return f"{name} = {value}" if value and len(value) < 60 else name


def fields(cls: type) -> str:
    """The fields or members of a class, with what their docstrings say."""
    said = field_docs(cls)
    if issubclass(cls, enum.Enum):
        lines = [f"* `{member.name}`{_colon(said.get(member.name))}" for member in cls]
    elif attrs.has(cls):
        # As they are written: resolving them, as others may have done, changes `one.type`.
        types = {k: v for one in _ours(cls) for k, v in one.__annotations__.items()}
        lines = [
            f"* `{one.alias}: {types[one.name]}{_default(one)}`{_colon(said.get(one.name))}"
            for one in attrs.fields(cls)
            if not one.name.startswith("_")
        ]
    else:
        lines = [f"* `{name}`{_colon(text)}" for name, text in _own_field_docs(cls).items()]
    return "\n".join(lines) + "\n" if lines else ""


def field_docs(cls: type) -> dict[str, str]:
    """The strings that stand below the fields of a class and of those that it derives from."""
    return {name: text for one in _ours(cls) for name, text in _own_field_docs(one).items()}


def _ours(cls: type) -> list[type]:
    return [one for one in reversed(cls.__mro__) if one.__module__.startswith("axsched")]


def _tree(cls: type) -> ast.ClassDef:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return tree


def _own_field_docs(cls: type) -> dict[str, str]:
    said: dict[str, str] = {}
    name = None
    for node in _tree(cls).body:
        text = _string(node)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif text is not None and name:
            said[name] = _line(text)
        else:
            name = None
    return said


def _string(node: ast.stmt) -> str | None:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return str(node.value.value) if is_text else None  # type: ignore[attr-defined]


def error(cls: type) -> str:
    """One error."""
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    return f"* `{cls.__name__}` ({bases}): {' '.join(_doc(cls).split())}"


def _doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _call(name: str, node: ast.FunctionDef) -> str:
    """How a function is called."""
    arguments = [one for one in _split(ast.unparse(node.args)) if not one.startswith("_")]
    if arguments and arguments[0] in ("self", "cls"):
        del arguments[0]
    given = ", ".join(arguments)
    gives = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    if len(f"{name}({given}){gives}") > 100:
        given = "\n" + "".join(f"    {one},\n" for one in arguments)
    return f"```python\n{name}({given}){gives}\n```\n"


def _split(arguments: str) -> list[str]:
    """Arguments one by one, also where there are commas within their types."""
    found, depth = [""], 0
    for letter in arguments:
        depth += letter in "([{"
        depth -= letter in ")]}"
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found if one.strip()]


_HEADS = ("Args", "Returns", "Raises", "Example")


def _said(text: str, level: str = "") -> str:
    """A docstring as Markdown: its sections become lists, its tables and examples code."""
    parts = re.split(rf"^({'|'.join(_HEADS)}):\n", text, flags=re.MULTILINE)
    made = [re.sub(r"^(=+ +=+\n.*?\n=+ +=+)$", r"```text\n\1\n```", parts[0].strip(), flags=_ALL)]
    for head, inner in zip(parts[1::2], parts[2::2], strict=True):
        lines = textwrap.dedent(inner).strip()
        if head == "Example":
            made.append("```python\n" + re.sub(r"(?m)^(>>>|\.\.\.) ?", "", lines) + "\n```")
        elif head == "Returns":
            made.append(f"**Returns**: {_line(lines)}")
        else:
            items = re.split(r"\n(?=\S)", lines)
            made.append(f"**{head}**:\n\n" + "\n".join(f"* {_item(_line(one))}" for one in items))
    return "\n\n".join(made)


_ALL = re.MULTILINE | re.DOTALL


def _item(text: str) -> str:
    names, colon, rest = text.partition(": ")
    return f"`{names}`: {rest}" if colon else text


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


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
    if inspect.isfunction(one.default):
        return f" = {one.default.__name__}"
    value = str(one.default) if isinstance(one.default, Path) else one.default
    return f" = {value!r}"


def _colon(text: str | None) -> str:
    return f": {text}" if text else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
