"""``axsched new-runner`` and the template that it copies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from axsched_core.cli import new_runner
from axsched_core.cli.main import main
from axsched_core.runners import discovery

CHECKOUT = Path(__file__).parents[2] / "examples" / "runner_template"


def call(*arguments: object):
    return CliRunner().invoke(main, ["new-runner", *map(str, arguments)])


def python(folder: Path, site: Path, *arguments: str) -> str:
    """Run Python where the distribution in ``folder`` is installed, or as good as: its metadata,
    made of its pyproject.toml, and its package are on the path."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    meta = site / f"{stem}.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (meta / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (site / project["name"].replace("-", "_")).symlink_to(
        folder / project["name"].replace("-", "_")
    )
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


# ---- the template ----------------------------------------------------------------------------


def test_the_template_passes_its_own_tests(tmp_path):
    """With an Ax client too, where Ax is."""
    output = python(CHECKOUT, tmp_path / "site", "-m", "pytest", "-p", "no:cacheprovider")
    assert " passed" in output
    # What the kit has cases for is tested, or is a capability that the robot does not have.
    assert "not tested" not in output


def test_the_runner_is_short():
    files = (CHECKOUT / "axsched_robot").glob("*.py")
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 130


def test_the_runner_does_not_import_ax(tmp_path):
    code = "import axsched_robot.plugin, sys; print(sorted({'ax', 'torch'} & set(sys.modules)))"
    assert python(CHECKOUT, tmp_path, "-c", code) == "[]\n"


def test_what_is_installed_is_the_checkouts_template():
    installed = new_runner.template()
    files = list(new_runner.template_files(CHECKOUT))
    assert files == list(new_runner.template_files(installed))
    for file in files:
        assert (installed / file).read_bytes() == (CHECKOUT / file).read_bytes(), file


# ---- the copy --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "package", "cls"), [("wet-lab2", "axsched_wet_lab2", "WetLab2")])
def test_a_copy_passes_its_tests(tmp_path, name, package, cls):
    result = call(name, "--into", tmp_path / "made" / "here")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "made" / "here" / f"axsched-{name}"
    assert [folder] == list(folder.parent.iterdir())
    everything = {file.relative_to(folder).as_posix() for file in folder.rglob("*.*")}
    listed = set(re.findall(r"^  (\S+\.\S+)$", result.output, re.MULTILINE))
    assert everything == listed
    assert result.output.splitlines()[-3:] == [
        f"  cd {folder}",
        '  python -m pip install -e ".[test]"',
        "  python -m pytest",
    ]
    for file in listed:
        text = (folder / file).read_text(encoding="utf-8")
        assert not re.search(r'axsched[-_]robot|Robot[A-Z]|"robot"|^robot =', text, re.MULTILINE)
    assert f"class {cls}Runner(OneByOneRunner)" in (folder / package / "runner.py").read_text()
    arguments = ("-m", "pytest", "-p", "no:cacheprovider", "-k", "not test_ax")
    output = python(folder, tmp_path / "site", *arguments)
    assert " passed" in output
    assert "not tested" not in output


def test_the_current_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("demo")
    assert (tmp_path / "axsched-demo" / "axsched_demo" / "runner.py").is_file()
    assert "  cd axsched-demo\n" in result.output


def test_a_path_with_a_space_is_quoted(tmp_path):
    result = call("demo", "--into", tmp_path / "my lab")
    assert f"  cd '{tmp_path}/my lab/axsched-demo'\n" in result.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My_Lab", "lower-case letters and digits.*Try 'my-lab'"),
        ("2d", "begin with a letter.*Try 'd'"),
        ("lab-", "Try 'lab'"),
        ("a--b", "Try 'a-b'"),
        ("../lab", "Try 'lab'"),
        ("läb", "Try 'l-b'"),
        ("lab\n", "lower-case"),
        ("42", r"hyphens in between\.$"),
        ("", "cannot be the name"),
        ("axsched-lab", "axsched new-runner lab"),
        ("core", "a distribution named axsched-core already"),
    ],
)
def test_a_name_that_cannot_be(tmp_path, name, words):
    result = call(name, "--into", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert re.search(words, result.output), result.output
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_an_installed_runner(tmp_path, monkeypatch):
    meta = tmp_path / "site" / "other_lab-2.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 2.0\n")
    (meta / "entry_points.txt").write_text("[axsched.runners]\nlab = other_lab\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert [one.name for one in discovery.installed() if one.name == "lab"] == ["lab"]
    result = call("lab", "--into", tmp_path / "out")
    assert result.exit_code == 1
    assert "a runner named 'lab' already: other-lab 2.0 is installed" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_nothing_is_overwritten(tmp_path, kind):
    target = tmp_path / "axsched-demo"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    result = call("demo", "--into", tmp_path)
    assert result.exit_code == 1
    assert f"{target} is there already" in result.output
    assert list(tmp_path.iterdir()) == [target]
    assert kind != "folder" or list(target.iterdir()) == []
    assert kind != "file" or target.read_text() == "mine"


def test_nothing_is_left_of_a_copy_that_failed(tmp_path, monkeypatch):
    real = new_runner.rename

    def rename(text: str, name: str) -> str:
        if "class Robot" in text:
            raise OSError(28, "No space left on device")
        return real(text, name)

    monkeypatch.setattr(new_runner, "rename", rename)
    result = call("demo", "--into", tmp_path)
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    assert "No space left" in result.output
    assert list(tmp_path.iterdir()) == []


def test_what_tools_have_left_in_the_template_is_not_copied(tmp_path, monkeypatch):
    folder = tmp_path / "template"
    for name in ("pyproject.toml", "axsched_robot/a.py", "tests/b.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    for name in ("__pycache__/a.pyc", ".venv/x", "dist/x.whl", "a.egg-info/x", ".git/config"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"\xff")
    (folder / "axsched_robot" / "a.pyc").write_bytes(b"\xff")
    monkeypatch.setattr(new_runner, "PLACES", (folder,))
    assert call("demo", "--into", tmp_path).exit_code == 0
    copy = tmp_path / "axsched-demo"
    copied = {file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()}
    assert copied == {"pyproject.toml", "axsched_demo/a.py", "tests/b.py"}


def test_an_installation_without_the_template(tmp_path, monkeypatch):
    monkeypatch.setattr(new_runner, "PLACES", (tmp_path / "nowhere",))
    result = call("demo", "--into", tmp_path)
    assert result.exit_code == 1
    assert "Reinstall it" in result.output


@pytest.mark.parametrize("arguments", [["new-runner", "--help"], ["new-runner", "demo"]])
def test_it_never_imports_ax(tmp_path, arguments):
    code = (
        "import sys\n"
        "from axsched_core.cli.main import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not [m for m in sys.modules if m == 'ax' or m.startswith(('ax.', 'torch'))]\n"
        "print('done')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.stdout.endswith("done\n"), ran.stderr
