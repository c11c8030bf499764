"""What counts as another objective than before, and what does not."""

from __future__ import annotations

import functools
import os
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from axsched_core import plain
from axsched_core.journal import lines, replay
from axsched_core.journal.writer import Writer
from axsched_core.objectives import build, fingerprint
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run.recorder import Recorder

Function = Callable[..., Any]


def chosen(function: Function, names: tuple[str, ...] = ("x", "y")) -> ObjectiveSpec:
    bound = build.bind_function(function, names)
    return ObjectiveSpec(bound, b"", fingerprint.of_function(function))


def same(one: Function, other: Function, *names: str) -> bool:
    names = names or ("x", "y")
    return not chosen(one, names).differs_from(chosen(other, names))


def scaled(x, y, k=1): ...


def closing_over(k: Any) -> Function:
    def function(x, y):
        return k

    return function


def with_default(k: Any) -> Function:
    def function(x, y, z=k, *, w=k): ...

    return function


def decorated(times: int, function: Function) -> Function:
    @functools.wraps(function)
    def again(*args, **kwargs):
        return [function(*args, **kwargs) for _ in range(times)]

    return again


class Model:
    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, x, y): ...
    def evaluate(self, x, y): ...
    def func(self, x, y): ...


class Other(Model):
    def __call__(self, x, y):
        return 1


# ---- functions -------------------------------------------------------------------------------


def test_a_lambda_is_the_same_in_any_statement():
    one = [lambda x, y: x + y]
    assert same(one[0], lambda x, y: x + y)
    assert same(functools.partial(one[0], 1), functools.partial(lambda x, y: x + y, 1), "y")


@pytest.mark.parametrize(
    "other",
    [
        lambda x, y: y,
        lambda y, x: x,
        lambda x, y: x + 1,
        lambda x, y: (lambda: x)(),
        lambda x, y=2: x,
        lambda x, y: abs(x),
    ],
)
def test_another_lambda(other):
    assert not same(lambda x, y: x, other)


def test_inner_code_of_a_lambda_counts():
    one, other = lambda x, y: [i + 1 for i in (x, y)], lambda x, y: [i + 2 for i in (x, y)]
    assert same(one, lambda x, y: [i + 1 for i in (x, y)])
    assert not same(one, other)


def test_the_same_function_indented(tmp_path: Path):
    source = "def f(x, y):\n    return x\n"
    texts = {
        "plain": source,
        "indented": "if True:\n" + textwrap.indent(source, "    "),
        "nested": f"def main():\n{textwrap.indent(source, '    ')}    return f\nf = main()\n",
    }
    found = []
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        found.append(runpy.run_path(str(tmp_path / f"{name}.py"))["f"])
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_arguments_of_a_partial_count():
    one, two = functools.partial(scaled, k=1), functools.partial(scaled, k=2)
    assert same(one, functools.partial(scaled, k=1))
    assert not same(one, two)
    assert not same(functools.partial(scaled, 1), functools.partial(scaled, 2), "y")
    assert not same(one, scaled)
    assert not same(one, functools.partial(with_default(1), k=1))


@pytest.mark.parametrize("make", [closing_over, with_default])
def test_plain_values_that_belong_to_a_function_count(make):
    for one, other in [(1, 2), (1, True), ("1", 1), ((1, ("a",)), (1, ("b",))), (None, 0)]:
        assert same(make(one), make(one))
        assert not same(make(one), make(other))
    assert same(make({"a": 1}), make({"a": 2}))  # it may be what the function writes into
    assert same(make(object()), make(object()))  # its address is no part of it


def test_a_closure_that_is_not_yet_filled():
    def function(x, y):
        return later

    assert same(function, function)
    later = 1


def test_a_decorator_and_what_it_decorates_count():
    assert same(decorated(2, scaled), decorated(2, scaled))
    assert not same(decorated(2, scaled), decorated(3, scaled))
    assert not same(decorated(2, scaled), decorated(2, with_default(1)))
    one = decorated(2, lambda x, y: x)
    assert same(one, decorated(2, lambda x, y: x))


def test_what_a_cache_wraps_counts():
    cached = functools.lru_cache(maxsize=None)
    assert same(cached(scaled), cached(scaled))
    assert not same(cached(scaled), cached(with_default(1)))


def test_objects_are_known_by_their_class():
    assert same(Model(1), Model(1))
    assert same(Model(1).evaluate, Model(1).evaluate)
    assert not same(Model(1), Other(1))
    assert not same(Model(1).evaluate, Model(1).func)
    # README says so: an object's state is not looked at.
    assert same(Model(1), Model(2))


def test_functions_without_code_are_known_by_their_names():
    assert same(max, max)
    assert not same(max, min)


def test_a_digest_does_not_hang_on_the_hash_seed():
    code = """if True:
        from axsched_core.objectives.fingerprint import of_function
        f = eval("lambda x, y: 1 if x in {'a', 'b', 'c', 'd', ('e', 1)} else (lambda: 2)()")
        print(of_function(f))
    """
    found = set()
    for seed in "123":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        found.add(subprocess.run(command, env=environment, stdout=-1, check=True).stdout)
    assert len(found) == 1


def test_another_python_is_not_another_objective():
    one = chosen(scaled)
    other = attrs.evolve(one, objective=attrs.evolve(one.objective, python=(3, 99)))
    assert not one.differs_from(other)


# ---- scripts and containers ------------------------------------------------------------------


def written(one: ObjectiveSpec, run_dir: Path) -> ObjectiveSpec:
    """As the next driver reads it."""
    recorder = Recorder(Writer(), lambda event: None)
    recorder.begin(run_dir, {"run_id": "0123456789"})
    recorder.objective(one)
    recorder.writer.close()
    found = replay.read(run_dir / lines.NAME).objective
    assert found is not None
    return ObjectiveSpec.from_plain(found, run_dir)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., ObjectiveSpec]:
    path = tmp_path / "simulate.py"
    path.write_text("")
    return lambda **options: ObjectiveSpec(
        build.script_objective(path, options), None, fingerprint.of_file(str(path))
    )


def test_a_time_limit_is_no_part_of_an_objective(script):
    assert not script(timeout=5).differs_from(script(timeout=6))
    assert script(args=[5]).differs_from(script(args=[6]))


def test_the_drivers_own_python_is_no_part_of_an_objective(script, tmp_path, monkeypatch):
    given = script(interpreter="/opt/python")
    one = written(script(), tmp_path)
    monkeypatch.setattr(sys, "executable", "/elsewhere/bin/python")
    other = script()
    assert other.objective.argv[0] == "/elsewhere/bin/python"
    assert not one.differs_from(other)
    assert not other.differs_from(one)
    assert one.differs_from(given)
    assert given.differs_from(script(interpreter="/opt/julia"))


def test_a_set_is_written_in_one_order():
    words = {"a", "b", "c", "d", "e", "f"}
    assert plain.as_written({"caps": words})["caps"] == sorted(words)


def test_options_of_a_container_are_compared_as_they_are_written(tmp_path):
    def container(port: int, **more: Any) -> ObjectiveSpec:
        options = {"volumes": {"/a": Path("/b")}, "ports": {80: port}, "places": (1, 2), **more}
        return ObjectiveSpec(build.container_objective("image", None, options))

    before = written(container(8080), tmp_path)
    assert not before.differs_from(container(8080))
    assert before.differs_from(container(8081))
    assert before.differs_from(container(8080, memory="2g"))
