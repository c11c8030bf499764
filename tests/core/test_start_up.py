"""What is imported before it is needed: nothing that costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import axsched_core
from axsched_core.cli.main import COMMANDS, main
from axsched_core.hookspecs import hookimpl

HEAVY = {"ax", "torch", "pandas", "numpy", "rich", "cattrs", "pluggy", "cloudpickle"}
MODULES = f"{{name.partition('.')[0] for name in sys.modules}} & {HEAVY}"


def loaded_by(code: str, cwd: Path) -> set[str]:
    """Which heavy packages a program has imported at its end."""
    code = f"import sys\n{code}\nprint(*sorted({MODULES}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def command(*arguments: str) -> str:
    return (
        f"from axsched_core.cli.main import main\nmain({list(arguments)!r}, standalone_mode=False)"
    )


@pytest.mark.parametrize("code", ["import axsched_core", command("--help"), command("status", ".")])
def test_nothing_heavy_is_loaded(code: str, tmp_path: Path):
    assert loaded_by(code, tmp_path) == set()


def test_only_what_lists_distributions_loads_importlib_metadata(tmp_path: Path):
    code = "print('importlib.metadata' in sys.modules)"
    for arguments, loads in ((["status", "."], "False"), (["--version"], "True")):
        whole = f"import sys\n{command(*arguments)}\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", whole], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.stdout.splitlines()[-1] == loads, done


def test_each_public_name_is_found():
    for name in axsched_core.__all__:
        value = getattr(axsched_core, name)
        assert value is hookimpl if name == "hookimpl" else value.__name__ == name
    assert set(axsched_core.__all__) <= set(dir(axsched_core))


def test_public_modules_are_attributes(tmp_path: Path):
    code = "import axsched_core\naxsched_core.errors.InvalidInput, axsched_core.jobs.JobState"
    loaded_by(code, tmp_path)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        axsched_core.nothing  # noqa: B018
    assert not hasattr(axsched_core, "_nothing")


def test_each_command_is_there_and_its_line_agrees():
    context = click.Context(main)
    for part in COMMANDS.values():
        for name, (_, line) in part.items():
            found = main.get_command(context, name)
            assert found is not None
            assert found.name == name
            assert found.help
            # The line begins like the command's own help: with the same verb.
            assert line.split()[0] == found.help.split()[0], name
    assert main.list_commands(context) == [name for part in COMMANDS.values() for name in part]
