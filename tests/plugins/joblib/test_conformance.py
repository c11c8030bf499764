"""The joblib runner passes the whole kit, saying honestly what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from axsched_core.testing import RunnerConformance


class TestJobLib(RunnerConformance):
    runner_name = "joblib"

    @pytest.fixture
    def runner_options(self):
        return {"n_jobs": 3}

    @pytest.fixture
    def leftovers(self, tmp_path: Path) -> Callable[[str], list[str]]:
        def find(run_id: str) -> list[str]:
            found = []
            for process in psutil.process_iter():
                try:
                    place = process.cwd()
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                if run_id in place:
                    found.append(str(process))
            return found

        return find
