"""Ax's SQL storage on sqlite: what is stored and when, and back from there by name."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import socket
import sqlite3
import sys
from pathlib import Path

import cloudpickle
import pytest

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput, OptimizationInterrupted, RunLocked
from axsched_core.testing import RandomSearch
from support.sql_driver import KINDS, NAME, counting, disconnect, evaluated, make, run, settings
from support.toy import ToyRunner

cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [
    pytest.mark.ax,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_connection"),
]


def rows(url: str, sql: str) -> list[tuple]:
    """What the database says, by a connection of one's own."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with contextlib.closing(engine.connect()) as connection:
        found = [tuple(row) for row in connection.execute(text(sql))]
    engine.dispose()
    return found


def config(tmp_path: Path, **more: object) -> dict[str, object]:
    return {"job_output_dir": tmp_path / "out", "progress": False, **more}


def scheduler_of(kind: str, tmp_path: Path, url: str, **more: object) -> AxScheduler:
    optimizer, strategy = make(kind, init=50)
    return AxScheduler(
        optimizer,
        "joblib",
        config(tmp_path, **more),
        {"n_jobs": 2},
        generation_strategy=strategy,
        db_settings=settings(url),
    )


def loss(x: float, y: float) -> dict[str, float]:
    return {"loss": (x - 0.3) ** 2 + y, "time": 2.0}


def points(scheduler: AxScheduler) -> list[str]:
    return [json.dumps(t.arm.parameters) for t in scheduler.experiment.trials.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_from_the_database(kind: str, tmp_path: Path, url: str):
    out = tmp_path / "out"
    killed = run("begin", kind, out, 3, url=url)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended = rows(url, "select count(*) from trial_v2 where status = 3")[0][0]
    assert 1 <= ended < 7  # the journal was quicker than the database: that is made up for

    gone_on = run("go-on", out, url=url)
    assert gone_on.returncode == 0, gone_on.stderr
    name = {"client": "Client", "ax_client": "AxClient", "experiment": "Experiment"}[kind]
    assert json.loads(gone_on.stdout.splitlines()[-1]) == {"client": name}

    from ax.storage.sqa_store.load import load_experiment
    from ax.storage.sqa_store.structs import DBSettings
    from ax.storage.sqa_store.with_db_settings_base import WithDBSettingsBase

    WithDBSettingsBase(DBSettings(url=url))  # connects
    stored = load_experiment(NAME)
    assert [stored.trials[i].status.name for i in range(7)] == ["COMPLETED"] * 7
    assert len(stored.trials) == 7
    assert len({json.dumps(t.arm.parameters) for t in stored.trials.values()}) == 7
    nodes = [stored.trials[i].generator_run._generation_node_name for i in range(7)]
    assert "Sobol" in nodes[4]
    assert nodes[6] not in nodes[:5]  # the strategy went on to its model
    times = evaluated(out)
    assert len(times) == len(set(times)) == 7
    assert {(t.arm.parameters["x"], t.arm.parameters["y"]) for t in stored.trials.values()} == set(
        times
    )
    data = stored.lookup_data().df
    found = {(r.trial_index, r.metric_name): r["mean"] for _, r in data.iterrows()}
    assert len(found) == len(data) == 14
    for index, trial in stored.trials.items():
        assert found[index, "loss"] == pytest.approx(loss(**trial.arm.parameters)["loss"])
    assert rows(url, "select count(*) from generator_run_v2 where trial_id is not null") == [(7,)]


@pytest.mark.parametrize("kind", KINDS)
def test_ax_itself_loads_what_is_stored(kind: str, tmp_path: Path, url: str):
    with scheduler_of(kind, tmp_path, url) as scheduler:
        scheduler.set_objective_function(loss)
        scheduler.run_optimization(max_trials=4)
        marks = {i: t.run_metadata for i, t in scheduler.experiment.trials.items()}
    disconnect()
    from ax import Client
    from ax.api.configs import StorageConfig
    from ax.service.ax_client import AxClient

    client = Client.load_from_database(NAME, StorageConfig(url=url))
    ax_client = AxClient(db_settings=settings(url), verbose_logging=False)
    ax_client.load_experiment_from_database(NAME)
    for experiment in (client._experiment, ax_client.experiment):
        assert {i: t.run_metadata for i, t in experiment.trials.items()} == marks
        assert all(t.status.is_completed for t in experiment.trials.values())
        assert len(experiment.lookup_data().df) == 8
    assert marks[0]["axsched"]["runner"] == "joblib"
    assert marks[0]["axsched"]["key"].endswith("-0-1")
    (made,) = ax_client.get_next_trials(max_trials=1)[0].values()
    assert json.dumps(made) not in {json.dumps(t.arm.parameters) for t in
                                    client._experiment.trials.values()}  # fmt: skip


@pytest.mark.parametrize("kind", ["client", "ax_client"])
def test_a_client_with_a_database_of_its_own_is_stored_there(
    kind: str, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
):
    with scheduler_of("experiment", tmp_path, url):
        pass  # makes the tables, and stores an experiment of another name's
    optimizer, _ = make(kind, "its own")
    from ax.api.configs import StorageConfig

    with_database = type(optimizer)(
        **{
            "client": {"storage_config": StorageConfig(url=url)},
            "ax_client": {"db_settings": settings(url), "verbose_logging": False},
        }[kind]
    )
    if kind == "client":
        with_database.set_experiment(optimizer._experiment)
        with_database._save_experiment_to_db_if_possible(optimizer._experiment)
    else:
        with_database._set_experiment(optimizer.experiment)
        with_database._generation_strategy = optimizer.generation_strategy
    scheduler = AxScheduler(with_database, "joblib", config(tmp_path), {"n_jobs": 1})
    scheduler.set_objective_function(loss)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x": 0.5, "y": 0.25})
        batch.add_generated(2)
    index = scheduler.get_next_trial()
    seen = "select t.\"index\", t.status from trial_v2 t join experiment_v2 e on e.id = " \
        "t.experiment_id where e.name = 'its own' order by 1"  # fmt: skip
    assert rows(url, seen) == [(0, 3), (1, 3), (2, 3), (3, 4)]  # the last one is running
    scheduler.complete_trial(index, {"loss": 1.0})
    assert rows(url, seen)[3] == (3, 3)
    scheduler.close()
    # The user's own calls are still saved by Ax.
    assert with_database.db_settings_set
    with pytest.raises(InvalidInput, match="has a database of its own"):
        AxScheduler(with_database, "joblib", db_settings=settings(url))


def test_one_save_a_consultation(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch):
    """Ax's own AxClient saves twice a trial; told results that came together are one save."""
    from axsched_core.optimizers import _sql

    scheduler = scheduler_of("ax_client", tmp_path, url)
    scheduler.set_objective_function(loss)
    saved: list[int] = []

    def save(experiment: object, trials: list, *rest: object) -> None:
        saved.append(len(trials))
        original(experiment, trials, *rest)

    original = _sql._save_or_update_trials
    monkeypatch.setattr(_sql, "_save_or_update_trials", save)
    with scheduler.batch_trial_context() as batch:
        for k in range(6):
            batch.add_trial({"x": k / 10, "y": 0.5})
    scheduler.close()
    assert max(saved) > 1  # not one by one
    assert rows(url, "select count(*) from trial_v2 where status = 3") == [(6,)]


def test_open_trials_whose_run_directory_is_gone_are_run_again(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
):
    scheduler = scheduler_of("client", tmp_path, url)
    scheduler.set_objective_function(counting("/nowhere", 60))
    running, made = scheduler.get_next_trial(), scheduler.get_next_trial()
    scheduler.run_trial(running)
    scheduler.client.get_next_trials(1)  # the user's own: not ours to run
    marks = rows(url, "select run_metadata from trial_v2 order by id")
    assert [json.loads(mark).get("axsched", {}).get("made") for (mark,) in marks] == [
        None,
        True,
        None,
    ]
    assert str(scheduler.run_directory) in marks[0][0]
    scheduler.close()
    disconnect()
    shutil.rmtree(tmp_path / "out")
    with AxScheduler.from_stored_experiment(
        NAME,
        db_settings=settings(url),
        runner="joblib",
        runner_options={"n_jobs": 2},
        config=config(tmp_path),
    ) as again:
        assert f"on {socket.gethostname()}, which cannot be seen from here" in caplog.text
        again.set_objective_function(loss)
        again.run_optimization(max_trials=2)
        assert sorted(again.trials) == [running, made, 3, 4]
        trials = again.experiment.trials
        assert {i for i, t in trials.items() if t.status.is_completed} == {running, made, 3, 4}
        assert trials[2].status.is_running
        assert len(set(points(again))) == 5


def test_another_runner_gets_the_results_but_not_the_jobs(tmp_path: Path, url: str):
    out = tmp_path / "out"
    assert run("begin", "experiment", out, 3, url=url).returncode == -signal.SIGKILL
    with pytest.raises(InvalidInput, match="has jobs that may not have ended"):
        AxScheduler.from_stored_experiment(
            NAME, db_settings=settings(url), runner="slurm", config=config(tmp_path)
        )


def test_another_runner_gets_what_the_journal_knows_better(tmp_path: Path, url: str):
    import sqlite3

    scheduler = scheduler_of("client", tmp_path, f"{url}?timeout=0.1")
    scheduler.set_objective_function(loss)
    scheduler.run_optimization(max_trials=2)
    other = sqlite3.connect(tmp_path / "ax.db")
    other.execute("begin exclusive")
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    other.close()
    assert rows(url, "select count(*) from trial_v2") == [(2,)]
    disconnect()
    with AxScheduler.from_stored_experiment(
        NAME, db_settings=settings(url), runner=ToyRunner(), config=config(tmp_path)
    ) as again:
        assert again.run_directory != scheduler.run_directory
        trials = again.experiment.trials
        assert [t.status.name for t in trials.values()] == ["COMPLETED"] * 3
        again.monitor_trials()
    assert rows(url, "select count(*) from trial_v2 where status = 3") == [(3,)]


def test_a_living_driver_is_not_disturbed(tmp_path: Path, url: str):
    with scheduler_of("client", tmp_path, url) as scheduler:
        scheduler.set_objective_function(loss)
        scheduler.run_optimization(max_trials=2)
        with pytest.raises(RunLocked, match=socket.gethostname()):
            AxScheduler.from_stored_experiment(NAME, db_settings=settings(url), runner="joblib")


def test_ctrl_c_is_stored_and_taken_up(tmp_path: Path, url: str):
    import _thread

    from axsched_core import hookimpl
    from axsched_core.events import TrialEnded

    class Impatient:
        @hookimpl
        def axsched_on_event(self, event):
            if isinstance(event, TrialEnded) and not self.pressed:
                self.pressed = True
                _thread.interrupt_main()

        pressed = False

    optimizer, _ = make("client", init=50)
    scheduler = AxScheduler(
        optimizer,
        "joblib",
        config(tmp_path, max_parallelism=2),
        {"n_jobs": 2},
        plugins=[Impatient()],
        db_settings=settings(url),
    )
    (tmp_path / "count").mkdir()
    scheduler.set_objective_function(counting(str(tmp_path / "count"), 0.2))
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=5)
    scheduler.close()
    disconnect()
    with AxScheduler.from_stored_experiment(
        NAME, db_settings=settings(url), runner="joblib"
    ) as again:
        again.finish()
        assert all(t.status.is_completed for t in again.experiment.trials.values())
        assert len(again.experiment.trials) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_notes_are_stored(kind: str, tmp_path: Path, url: str):
    with scheduler_of(kind, tmp_path, url) as scheduler:
        scheduler.set_objective_function(lambda x, y: {**loss(x, y), "notes": {"x": x}})
        scheduler.run_optimization(max_trials=2)
    disconnect()
    shutil.rmtree(tmp_path / "out")
    with AxScheduler.from_stored_experiment(
        NAME, db_settings=settings(url), runner=ToyRunner(), config=config(tmp_path)
    ) as again:
        trials = again.experiment.trials.values()
        assert len(trials) == 2
        for trial in trials:
            assert trial.run_metadata["axsched"]["notes"] == {"x": trial.arm.parameters["x"]}
            assert trial.run_metadata["axsched"]["runner"] == "joblib"


# ---- what is refused ---------------------------------------------------------------------------


def test_a_name_that_is_not_there_names_the_nearest(tmp_path: Path, url: str):
    for name in ("digits", "digits-2", "airfoil"):
        optimizer, _ = make("client", name)
        AxScheduler(optimizer, "joblib", config(tmp_path), db_settings=settings(url)).close()
    with pytest.raises(InvalidInput, match=r"no experiment 'digit'. Did you mean 'digits' or 'dig"):
        AxScheduler.from_stored_experiment("digit", db_settings=settings(url), runner="joblib")
    with pytest.raises(InvalidInput, match=r"It holds 'airfoil', 'digits-2', 'digits'\."):
        AxScheduler.from_stored_experiment("QQQQ", db_settings=settings(url), runner="joblib")
    with pytest.raises(InvalidInput, match="holds another experiment 'digits' already"):
        AxScheduler(make("client", "digits")[0], "joblib", db_settings=settings(url))


def test_an_empty_database_says_so(url: str):
    with pytest.raises(InvalidInput, match="It holds none at all"):
        AxScheduler.from_stored_experiment("e", db_settings=settings(url), runner="joblib")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("sqlite:////nowhere/at/all/ax.db", "unable to open database file"),
        ("sqlite://", "in memory"),
        ("postgresql+psycopg://me:sesame-77@127.0.0.1:1/ax", "me@127.0.0.1:1/ax cannot be used"),
        ("postgresql+nodriver://me:sesame-77@h/ax", "Install the driver"),
        ("postgresql://me:p@ss:sesame-77@h/ax", "percent-encoded"),
        ("me:sesame-77", "cannot be read"),
        ("postgresql+psycopg://me@127.0.0.1:1/ax?password=sesame-77", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used(bad: str, words: str, caplog: pytest.LogCaptureFixture):
    with pytest.raises(InvalidInput, match=words) as caught:
        AxScheduler.from_stored_experiment("e", db_settings=settings(bad), runner="joblib")
    import traceback

    shown = "".join(traceback.format_exception(caught.value))
    assert "sesame-77" not in shown + caplog.text


def test_a_creator_is_one_of_connections_to_mysql():
    from ax.storage.sqa_store.structs import DBSettings

    given = DBSettings(creator=lambda: sqlite3.connect(":memory:"))
    with pytest.raises(InvalidInput, match="for a connection to MySQL; give a url"):
        AxScheduler.from_stored_experiment("e", db_settings=given, runner="joblib")


@pytest.mark.parametrize("bad", ["sqlite:////nowhere/at/all/ax.db", "sqlite://"])
def test_after_a_wrong_url_the_right_one_can_be_given(bad: str, tmp_path: Path, url: str):
    wrong = settings(bad)
    with pytest.raises(InvalidInput):
        AxScheduler(make("client")[0], "joblib", config(tmp_path), db_settings=wrong)
    AxScheduler(make("client")[0], "joblib", config(tmp_path), db_settings=settings(url)).close()


def test_a_second_database_in_one_process_is_refused(tmp_path: Path, url: str):
    """Ax would store the second experiment in the first database without a word."""
    scheduler_of("client", tmp_path, url).close()
    with pytest.raises(InvalidInput, match="Ax keeps one connection per process"):
        AxScheduler(
            make("client", "b")[0],
            "joblib",
            config(tmp_path),
            db_settings=settings(f"sqlite:///{tmp_path}/b.db"),
        )


def test_db_settings_of_the_wrong_type_are_not_shown(tmp_path: Path):
    with pytest.raises(InvalidInput, match="got a str") as caught:
        AxScheduler(make("client")[0], "joblib", db_settings="postgresql://me:sesame@h/ax")
    assert "sesame" not in str(caught.value)


def test_only_ax_can_be_stored(url: str):
    search = RandomSearch({"x": (0.0, 1.0)})
    with pytest.raises(InvalidInput, match="which Ax can store"):
        AxScheduler(search, "joblib", db_settings=settings(url))
    with pytest.raises(InvalidInput, match="needs an optimizer"):
        AxScheduler(None, "joblib", db_settings=settings(url))


# ---- a database that fails in the middle -------------------------------------------------------


def test_a_database_that_fails_loses_nothing(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
):
    """The file is locked by another connection for a while, as a backup would."""
    import sqlite3

    scheduler = scheduler_of("client", tmp_path, f"{url}?timeout=0.1")
    scheduler.set_objective_function(loss)
    other = sqlite3.connect(tmp_path / "ax.db")
    other.execute("begin exclusive")
    with caplog.at_level(logging.WARNING, "axsched"):
        scheduler.run_optimization(max_trials=3)
        assert "cannot be stored: OperationalError: database is locked" in caplog.text
        assert all(t.status.is_completed for t in scheduler.experiment.trials.values())
        other.rollback()
        other.close()
        assert rows(url, "select count(*) from trial_v2") == [(0,)]
        scheduler._run.optimizer._database._not_before = 0.0  # the pause would be a second
        scheduler.monitor_trials()
    assert "all is stored again" in caplog.text
    assert rows(url, "select count(*) from trial_v2 where status = 3") == [(3,)]
    scheduler.close()


def test_a_save_of_which_nobody_knows_doubles_nothing(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
):
    """The commit went through, and the connection broke before the answer came."""
    from ax.storage.sqa_store import save
    from sqlalchemy.exc import OperationalError

    scheduler = scheduler_of("client", tmp_path, url)
    original, broken = save._bulk_merge_into_session, []

    def breaking(objs, *rest, **more):
        keep = [(o, o.db_id) for o in objs if hasattr(o, "db_id")]
        made = original(objs, *rest, **more)
        if not broken and objs and type(objs[0]).__name__ == "Trial":
            broken.append(objs)
            for one, number in keep:
                one._db_id = number
            raise OperationalError("commit", {}, Exception("gone"), connection_invalidated=True)
        return made

    monkeypatch.setattr(save, "_bulk_merge_into_session", breaking)
    scheduler.set_objective_function(lambda x, y: {"loss": x})
    scheduler.run_optimization(max_trials=3)
    scheduler.close()
    assert len(broken) == 1
    assert rows(url, 'select "index" from trial_v2 order by 1') == [(0,), (1,), (2,)]
    found = rows(url, "select count(*) from generator_run_v2 where trial_id is not null")
    assert found == [(3,)]


# ---- AxScheduler(None, ...) --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_without_an_optimizer_loads_any_kind(kind: str, tmp_path: Path):
    optimizer, strategy = make(kind, "from a file", init=50)
    path = tmp_path / "e.json"
    with AxScheduler(
        optimizer, "joblib", config(tmp_path), {"n_jobs": 1}, generation_strategy=strategy
    ) as first:
        first.set_objective_function(loss)
        first.run_optimization(max_trials=2)
        first.save_experiment(path)
    with AxScheduler(None, "joblib", config(tmp_path), {"n_jobs": 1}) as scheduler:
        script = tmp_path / "evaluate.sh"
        script.write_text("echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE\n")
        scheduler.set_script_objective(script)  # needs no optimizer
        for call in (
            lambda: scheduler.run_optimization(max_trials=1),
            lambda: scheduler.get_next_trial(),
            lambda: scheduler.set_objective_function(loss),
            lambda: scheduler.save_experiment(path),
            lambda: scheduler.experiment,
            lambda: scheduler.client,
        ):
            with pytest.raises(InvalidInput, match="load_experiment"):
                call()
        assert scheduler.load_experiment(path) is scheduler
        assert type(scheduler.client) is type(optimizer)
        scheduler.run_optimization(max_trials=2)
        assert [t.status.name for t in scheduler.experiment.trials.values()] == ["COMPLETED"] * 4
        assert len(set(points(scheduler))) == 4
        assert scheduler.run_directory.name.startswith("from_a_file-")


def test_a_file_of_nothing_is_refused(tmp_path: Path):
    (tmp_path / "torn.json").write_text('{"experiment": ')
    (tmp_path / "other.json").write_text("{}")
    with AxScheduler(None, "joblib") as scheduler:
        for name, words in (
            ("missing.json", "cannot be read"),
            ("torn.json", "torn"),
            ("other.json", "holds no experiment"),
        ):
            with pytest.raises(InvalidInput, match=words):
                scheduler.load_experiment(tmp_path / name)


def test_what_comes_from_a_file_is_said_to_be_stored_no_more(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
):
    with scheduler_of("client", tmp_path, url) as scheduler:
        scheduler.set_objective_function(loss)
        scheduler.run_optimization(max_trials=1)
        scheduler.save_experiment(tmp_path / "e.json")
        with caplog.at_level(logging.WARNING):
            scheduler.load_experiment(tmp_path / "e.json")
        assert "is not connected to a database" in caplog.text
        scheduler.run_optimization(max_trials=1)
    assert rows(url, "select count(*) from trial_v2") == [(1,)]
