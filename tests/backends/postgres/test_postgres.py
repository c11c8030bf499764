"""Ax's SQL storage on a real PostgreSQL server."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import psycopg
import pytest

from axsched_core import AxScheduler, hookimpl
from axsched_core.errors import InvalidInput
from axsched_core.events import TrialEnded
from support import environment
from support.postgres_server import PostgresServer
from support.sql_driver import KINDS, NAME, counting, evaluated, make, run, settings

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]


def rows(server: PostgresServer, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        return connection.execute(sql).fetchall()


def assert_secret(server: PostgresServer, folder: Path, *texts: str) -> None:
    """The password, in either spelling, is in no file below ``folder`` and in no text."""
    spelt = [server.password, server.url.split(":")[2].partition("@")[0]]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for spelling in spelt:
        assert not [path for path in files if spelling.encode() in path.read_bytes()]
        assert not [text for text in texts if spelling in text]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_from_the_database(
    kind: str, postgres: PostgresServer, tmp_path: Path
):
    out = tmp_path / "out"
    killed = run("begin", kind, out, 3, url=postgres.url)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    gone_on = run("go-on", out, url=postgres.url)
    assert gone_on.returncode == 0, gone_on.stderr
    # COMPLETED
    assert rows(postgres, 'select "index", status from trial_v2 order by 1') == [
        (index, 3) for index in range(7)
    ]
    arms = rows(postgres, "select parameters from arm_v2")
    points = {tuple(json.loads(arm)[name] for name in ("x", "y")) for (arm,) in arms}
    assert sorted(points) == evaluated(out)  # each was tried once, and none twice
    assert len(points) == 7

    from ax import Client
    from ax.api.configs import StorageConfig

    client = Client.load_from_database(NAME, StorageConfig(url=postgres.url))
    assert len(client._experiment.lookup_data().df) == 14
    assert_secret(postgres, tmp_path, killed.stderr, gone_on.stderr, gone_on.stdout)


def test_a_restart_in_the_middle_of_a_run_loses_nothing(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    class Operator:
        ended = 0

        @hookimpl
        def axsched_on_event(self, event: Any) -> None:
            self.ended += isinstance(event, TrialEnded)
            if isinstance(event, TrialEnded) and self.ended == 2:
                postgres.stop()
            if isinstance(event, TrialEnded) and self.ended == 5:
                seen.append("cannot be stored" in caplog.text)
                postgres.start()

    seen: list[bool] = []
    (tmp_path / "count").mkdir()
    optimizer, _ = make("client", init=50)
    with (
        caplog.at_level(logging.WARNING),
        AxScheduler(
            optimizer,
            "joblib",
            {"job_output_dir": tmp_path / "out", "progress": False, "max_parallelism": 1},
            {"n_jobs": 1},
            plugins=[Operator()],
            db_settings=settings(postgres.url),
        ) as scheduler,
    ):
        scheduler.set_objective_function(counting(str(tmp_path / "count")))
        scheduler.run_optimization(max_trials=8)
    assert seen == [True]
    assert "all is stored again" in caplog.text
    assert rows(postgres, 'select "index", status from trial_v2 order by 1') == [
        (index, 3) for index in range(8)
    ]
    assert rows(postgres, "select count(*) from data_v2") == [(8,)]
    runs = rows(
        postgres,
        "select count(*), count(distinct trial_id) from generator_run_v2 "
        "where generation_strategy_id is not null",
    )
    assert runs == [(8, 8)]
    assert_secret(postgres, tmp_path, caplog.text)


def test_a_restart_between_two_calls_is_not_noticed(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    optimizer, _ = make("client", init=50)
    with AxScheduler(
        optimizer,
        "joblib",
        {"job_output_dir": tmp_path, "progress": False},
        db_settings=settings(postgres.url),
    ) as scheduler:
        scheduler.get_next_trial()
        postgres.stop()
        postgres.start()
        scheduler.get_next_trial()
        assert rows(postgres, "select count(*) from trial_v2") == [(2,)]
    assert "cannot be stored" not in caplog.text


def test_a_wrong_password_is_not_shown(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    wrong = settings(postgres.url_with("sesame-77"))
    with pytest.raises(InvalidInput, match="password authentication failed") as caught:
        AxScheduler(make("client")[0], "joblib", db_settings=wrong)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert f"scientist@127.0.0.1:{postgres.port}/ax cannot be used" in shown
    assert "sesame-77" not in shown


def test_a_server_that_does_not_run_is_said(postgres: PostgresServer):
    postgres.stop()
    try:
        with pytest.raises(InvalidInput, match="refused"):
            AxScheduler.from_stored_experiment(
                NAME, db_settings=settings(postgres.url), runner="joblib"
            )
    finally:
        postgres.start()


def test_two_that_begin_at_once_both_have_their_tables(postgres: PostgresServer):
    code = (
        "import sys; from axsched_core.optimizers._sql import Database\n"
        "from support.sql_driver import settings\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "Database(settings(sys.argv[1])); print('done')"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", code, postgres.url],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for one in both:
        assert one.stdout is not None
        while one.stdout.readline() != "ready\n":
            assert one.poll() is None
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in both:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
        assert "done" in out
