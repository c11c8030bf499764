"""Ax's SQL storage: one save per consultation; the database may be unavailable at times.

Ax keeps one connection pool per process (``ax.storage.sqa_store.db``). Its own functions for
saving and loading use it, and so does this module. Nothing here ever shows a password.
"""

from __future__ import annotations

import difflib
import logging
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from ax.api.configs import StorageConfig
from ax.api.utils.storage import db_settings_from_storage_config
from ax.core.experiment import Experiment
from ax.core.trial import Trial
from ax.exceptions.core import ExperimentNotFoundError
from ax.storage.sqa_store import db, sqa_classes  # noqa: F401 - so that all tables are known
from ax.storage.sqa_store.save import (
    _save_experiment,
    _save_generation_strategy,
    _save_or_update_trials,
    _update_generation_strategy,
    update_properties_on_experiment,
)
from ax.storage.sqa_store.structs import DBSettings
from ax.storage.sqa_store.with_db_settings_base import WithDBSettingsBase
from sqlalchemy import MetaData, Text, inspect, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from axsched_core.errors import InvalidInput
from axsched_core.optimizers._content import EXPERIMENT, STRATEGY

_log = logging.getLogger("axsched")

BATCH = 50
"""Trials per transaction."""
SAY_AGAIN = 60.0
"""Seconds between two warnings about one outage; also the longest pause between two tries."""
LONGEST_NAME = 255
"""The length of Ax's longest column for a name; longer columns are for JSON."""
_SIZED = re.compile(r"(?P<type>TEXT|VARCHAR)\((?P<length>\d+)\)")
_SECRET_WORDS = ("pass", "pwd", "secret", "token")


def settings_of(given: Any) -> Any:
    """Ax's ``DBSettings``, from that or from a ``StorageConfig``."""
    if isinstance(given, DBSettings):
        return given
    if isinstance(given, StorageConfig):
        return db_settings_from_storage_config(given)
    raise InvalidInput(  # what was given may be a url, with a password in it
        f"db_settings must be Ax's DBSettings(url=...) or StorageConfig(url=...), got a "
        f"{type(given).__name__}. (from ax.storage.sqa_store.structs import DBSettings)"
    )


class Database:
    """The database that one experiment is stored in.

    Args:
        settings: Ax's ``DBSettings``. Missing tables are made.

    Raises:
        InvalidInput: it cannot be reached, or this process is connected to another one.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self._url = _parsed(settings.url)
        self._secrets = _secrets(settings.url, self._url)
        self._stored: dict[int, Any] = {}
        """Trials that are in the database: index -> the status that it has there."""
        self._metrics: set[str] = set()
        self._node: str | None = None
        self._failed = False
        self._not_before = self._said = 0.0
        self._connect()

    @property
    def where(self) -> str:
        """The database in words, without a password."""
        return "the database of db_settings.creator" if self._url is None else _shown(self._url)

    def words(self, error: BaseException) -> str:
        """An error's message, without a password and without a page of SQL."""
        text = str(getattr(error, "orig", None) or error).strip() or "no reason was given"
        return self._scrubbed(f"{type(error).__name__}: {' '.join(text.split())}")

    def _scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _connect(self) -> None:
        ours = db.SESSION_FACTORY is None
        try:
            if ours:
                db.init_engine_and_session_factory(
                    url=self.settings.url, creator=self.settings.creator
                )
            engine = db.get_engine()
            self._is_the_one(engine)
            if missing := _missing_tables(engine):
                _log.info("%s: making %d tables of Ax's.", self.where, len(missing))
                try:
                    _make_tables(engine)
                except DBAPIError:
                    if _missing_tables(engine):  # if not, another process was faster
                        raise
        except Exception as error:
            if ours and db.SESSION_FACTORY is not None:
                db.get_engine().dispose()
                db.SESSION_FACTORY = None  # so that another try with another url is possible
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(
                f"{self.where} cannot be used: {self.words(error)}.{_hint(error, self._url)}"
            ) from _without_secrets(error, self)

    def _is_the_one(self, engine: Any) -> None:
        # Ax ignores a second url, and would save into the first database.
        if self._url is not None and engine.url != self._url:
            raise InvalidInput(
                f"This process is connected to {_shown(engine.url)}, and Ax keeps one connection "
                f"per process, so {self.where} would not be used. Start another process, or "
                "first call ax.storage.sqa_store.db.init_engine_and_session_factory("
                "url=..., force_init=True), after which nothing is stored in the old one."
            )
        if engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:"):
            raise InvalidInput(
                "A database in memory is gone with the process, and other threads do not see it. "
                "Give a file: sqlite:////absolute/path.db"
            )

    # ---- reading -------------------------------------------------------------------------------

    def load(self, name: str) -> tuple[Any, Any]:
        """The experiment of this name and its generation strategy (None if it has none).

        Raises:
            InvalidInput: there is none (names similar ones), or Ax cannot read it.
        """
        try:
            loader = WithDBSettingsBase(db_settings=self.settings)
            experiment, strategy = loader._load_experiment_and_generation_strategy(name)
            # PostgreSQL returns rows in any order, and Ax does not sort them.
            experiment._trials = dict(sorted(experiment._trials.items()))
            return experiment, strategy
        except ExperimentNotFoundError:
            raise InvalidInput(
                f"{self.where} holds no experiment {name!r}. {self._nearest(name)}"
            ) from None
        except Exception as error:  # noqa: BLE001 - the same
            raise InvalidInput(
                f"Ax cannot load the experiment {name!r} from {self.where}: {self.words(error)}. "
                "Classes of your own need a decoder that knows them: DBSettings(decoder=...)."
            ) from _without_secrets(error, self)

    def _nearest(self, name: str) -> str:
        table = self.settings.decoder.config.class_to_sqa_class[Experiment]
        with db.session_scope() as session:
            names = [row[0] for row in session.query(table.name).order_by(table.id.desc())]
        if not names:
            return "It holds none at all."
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            return f"Did you mean {' or '.join(map(repr, near))}?"
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"It holds {', '.join(map(repr, names[:5]))}{more}."

    # ---- writing -------------------------------------------------------------------------------

    def begin(self, experiment: Any, strategy: Any) -> None:
        """Store an experiment, or check that the stored one is the same.

        Raises:
            InvalidInput: it has no name, or another one of this name is stored.
        """
        name = experiment._name
        if not name:
            raise InvalidInput("An experiment needs a name before a database can store it.")
        try:
            if experiment.db_id is None and self._id_of(name) is not None:
                raise InvalidInput(
                    f"{self.where} holds another experiment {name!r} already. To go on with that: "
                    f"AxScheduler.from_stored_experiment({name!r}, db_settings=..., runner=...); "
                    "or choose another name."
                )
            if strategy is not None and experiment.db_id is not None:
                self._put_strategy(experiment, strategy)  # before its trials, as in _put
            self._put_whole(experiment)
            if strategy is not None:
                self._put_strategy(experiment, strategy)
        except InvalidInput:
            raise
        except Exception as error:  # noqa: BLE001 - the same
            raise InvalidInput(
                f"The experiment {name!r} cannot be stored in {self.where}: {self.words(error)}"
            ) from _without_secrets(error, self)

    def go_on(self, experiment: Any, strategy: Any) -> None:
        """The same for an experiment that `load` has just read."""
        self._metrics = set(experiment.metrics)
        self._stored = {index: trial.status for index, trial in experiment.trials.items()}
        self._node = None if strategy is None else strategy.current_node_name

    def remember(self, experiment: Any, data: Mapping[str, Any]) -> None:
        """Leave plain data on the experiment, as ``properties["axsched"]``."""
        experiment._properties["axsched"] = dict(data)
        try:
            update_properties_on_experiment(experiment, config=self.settings.encoder.config)
        except Exception as error:  # noqa: BLE001 - stored with what comes next
            self._metrics.clear()
            self._failed = True
            self._complain(error, 0, experiment)

    def store(self, experiment: Any, strategy: Any, touched: set[int], parts: set[str]) -> None:
        """Save the changes to the database; if that fails, the next call saves them.

        Args:
            experiment: the Ax experiment.
            strategy: its generation strategy, or None if none was chosen yet.
            touched: trials with other changes than in their status; emptied when stored.
            parts: what the user has changed except trials (`_content`); emptied when stored.
        """
        began = time.monotonic()
        if began < self._not_before:
            return
        changed = len(self._changed(experiment, touched))
        same = self._metrics == set(experiment.metrics) and not parts
        if not changed and not self._failed and same:
            return
        try:
            self._put_twice(experiment, strategy, touched, parts)
        except Exception as error:  # noqa: BLE001 - results are not lost for it: they wait
            took = time.monotonic() - began
            self._not_before = time.monotonic() + min(10 * took, SAY_AGAIN)
            self._failed = True
            self._complain(error, changed, experiment)
            return
        touched.clear()
        parts.clear()
        if self._failed:
            self._failed, self._said = False, 0.0
            _log.warning("%s: all is stored again.", self.where)

    def _changed(self, experiment: Any, touched: set[int]) -> list[Any]:
        return [
            trial
            for index, trial in experiment.trials.items()
            if index in touched or self._stored.get(index) is not trial.status
        ]

    def _put_twice(
        self, experiment: Any, strategy: Any, touched: set[int], parts: set[str]
    ) -> None:
        try:
            self._put(experiment, strategy, touched, parts)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # After a restart of the server, the first use of an old connection fails.
            self._failed = True
            self._put(experiment, strategy, touched, parts)

    def _put(self, experiment: Any, strategy: Any, touched: set[int], parts: set[str]) -> None:
        if self._failed:
            self._find_again(experiment)
        # First the strategy: if it is ahead of its trials, it skips a point; if it is behind,
        # it proposes a point again.
        if strategy is not None:
            self._put_strategy(experiment, strategy, whole=STRATEGY in parts)
        if self._metrics != set(experiment.metrics) or parts & EXPERIMENT:
            self._put_whole(experiment)
        # Only now, and never kept: with each save Ax replaces the trial objects.
        elif changed := self._changed(experiment, touched):
            _save_or_update_trials(
                experiment, changed, self.settings.encoder, self.settings.decoder, BATCH
            )
            self._stored |= {trial.index: trial.status for trial in changed}

    def _put_whole(self, experiment: Any) -> None:
        _save_experiment(experiment, self.settings.encoder, self.settings.decoder)
        self._metrics = set(experiment.metrics)
        self._stored = {index: trial.status for index, trial in experiment.trials.items()}

    def _put_strategy(self, experiment: Any, strategy: Any, *, whole: bool = False) -> None:
        if strategy._experiment is None:
            strategy.experiment = experiment
        node = strategy.current_node_name
        if strategy.db_id is None or node != self._node or whole:
            _save_generation_strategy(strategy, self.settings.encoder, self.settings.decoder)
            self._node = node
        elif runs := [run for run in strategy._generator_runs if run.db_id is None]:
            # Ax's clients save the whole strategy, with all runs, for each trial.
            _update_generation_strategy(
                strategy, runs, self.settings.encoder, self.settings.decoder, BATCH
            )

    def _find_again(self, experiment: Any) -> None:
        """Find trials that were stored without a confirmation, so that none is saved twice."""
        table = self.settings.encoder.config.class_to_sqa_class[Trial]
        with db.session_scope() as session:
            rows = session.query(table.index, table.id).filter_by(experiment_id=experiment.db_id)
            known = {index: number for index, number in rows}
        for index, trial in experiment.trials.items():
            if trial.db_id is None and index in known:
                trial.db_id = known[index]

    def _id_of(self, name: str) -> int | None:
        table = self.settings.encoder.config.class_to_sqa_class[Experiment]
        with db.session_scope() as session:
            row = session.query(table.id).filter_by(name=name).one_or_none()
        return None if row is None else int(row[0])

    def _complain(self, error: BaseException, waiting: int, experiment: Any) -> None:
        now = time.monotonic()
        if self._said and now - self._said < SAY_AGAIN:
            return
        self._said = now
        _log.error(
            "%s: what is new in the experiment %r (%d trials) cannot be stored: %s. The run goes "
            "on, nothing is lost, and it is tried again.",
            self.where,
            experiment._name,
            waiting,
            self.words(error),
        )


def _make_tables(engine: Any) -> None:
    if engine.dialect.name != "postgresql":
        db.create_all_tables(engine)
        return
    # Ax's lengths are made for MySQL, which truncates or ignores what PostgreSQL refuses: a TEXT
    # with a length, a VARCHAR of four billion, a generation strategy in a VARCHAR of 4096.
    tables = MetaData()
    for table in db.Base.metadata.sorted_tables:
        for column in table.to_metadata(tables).columns:
            sized = _SIZED.fullmatch(column.type.compile(dialect=engine.dialect))
            if sized and (sized["type"] == "TEXT" or int(sized["length"]) > LONGEST_NAME):
                column.type = Text()
    tables.create_all(engine)


def _missing_tables(engine: Any) -> set[str]:
    return set(db.Base.metadata.tables) - set(inspect(engine).get_table_names())


def _parsed(url: str | None) -> Any:
    if url is None:
        return None
    try:
        parsed = make_url(url)
        sound = "@" not in (parsed.host or "")
    except Exception:  # noqa: BLE001 - its message may hold the password
        sound = False
    if not sound:
        raise InvalidInput(
            "The database url cannot be read. It is dialect+driver://user:password@host:port/name,"
            " where special characters of the password are percent-encoded "
            "(urllib.parse.quote_plus). It is not shown here, because of the password."
        )
    return parsed


def _shown(url: Any) -> str:
    user = f"{url.username}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{user}{url.host or ''}{port}/{url.database or ''}"


def _secrets(raw: str | None, url: Any) -> list[str]:
    """The texts that must never be shown, the longest first."""
    if raw is None or url is None:
        return []
    found = {str(url.password)} if url.password else set[str]()
    for key, value in url.query.items():
        if any(word in key.lower() for word in _SECRET_WORDS):
            found |= {value} if isinstance(value, str) else set(value)
    spelt = {f(secret) for secret in found if secret for f in (str, quote, quote_plus)}
    return sorted(spelt, key=len, reverse=True)


def _without_secrets(error: BaseException, database: Database) -> BaseException | None:
    """The error as a cause that can be shown, None if its message has a secret in it."""
    seen: BaseException | None = error
    while seen is not None:
        if any(secret in str(seen) for secret in database._secrets):
            return None
        seen = seen.__cause__ or seen.__context__
    return error


def _hint(error: BaseException, url: Any) -> str:
    if isinstance(error, ModuleNotFoundError | NoSuchModuleError):
        if url is None:  # see ax.storage.sqa_store.db.create_mysql_engine_from_creator
            return (
                " Ax takes what a creator makes for a connection to MySQL; give a url for any "
                "other database."
            )
        return (
            " Install the driver that the url names; for PostgreSQL: "
            "pip install 'axsched-core[sql]', and the url begins with postgresql+psycopg://"
        )
    return ""
