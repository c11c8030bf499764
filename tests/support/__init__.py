"""What several tests share. `IMPORT_ROOT` is on their `sys.path`: see pyproject.toml.

It is never the repository's root: from there Python would import the source of ``axsched_core`` in
place of the tested wheel.
"""

from __future__ import annotations

import os
from pathlib import Path

IMPORT_ROOT = str(Path(__file__).parents[1])


def environment(**more: str) -> dict[str, str]:
    """This process's environment, and more, for another Python that must find this package."""
    paths = (IMPORT_ROOT, os.environ.get("PYTHONPATH"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}
