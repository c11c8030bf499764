"""The tutorials run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from axsched_core import table

pytestmark = pytest.mark.ax

TUTORIALS = Path(__file__).parents[3] / "docs" / "tutorials"


def code_of(name: str) -> str:
    text = (TUTORIALS / name).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_from_ax_s_scheduler(tmp_path: Path, one_connection: None) -> None:
    script = tmp_path / "tutorial.py"
    script.write_text(code_of("from_ax_scheduler.md"))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Trials: 30 SUCCEEDED." in done.stdout
    assert done.stdout.rstrip().endswith("35")
    (run,) = (tmp_path / "outputs").iterdir()
    rows = table.rows(run)
    assert [row["state"] for row in rows] == ["SUCCEEDED"] * 35
    assert "MBM" in {row["method"] for row in rows}
