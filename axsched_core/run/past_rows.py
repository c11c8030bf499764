"""Past measurements: a table is read, and checked row by row against what is optimized."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from axsched_core.errors import InvalidInput, did_you_mean
from axsched_core.jobs import JobResult, Metrics, Parameters
from axsched_core.objectives.results import InvalidResult, read_result
from axsched_core.optimizers.base import Optimizer

ARM_NAME = "arm_name"
"""A column with a label of each row, which goes into the trial's notes."""
SEM = "_sem"
"""The end of the name of a column with a metric's standard errors."""
SHOWN = 10
"""How many bad rows an error lists."""


@frozen
class Measurement:
    """One past result."""

    where: str
    """Its place, for people."""
    parameters: Parameters = field(factory=dict)
    metrics: Mapping[str, Any] = field(factory=dict)
    """Metric -> a value in a form that an objective may return; (mean, sem) once it is checked."""
    notes: Any = None
    problem: str = ""
    """Why it cannot be read; "" if it can."""


def check(given: Sequence[Measurement], optimizer: Optimizer, source: str) -> list[Measurement]:
    """Check all measurements; on the thread that owns the optimizer.

    Args:
        given: the measurements.
        optimizer: gets them later.
        source: where they come from, for the message.

    Returns:
        The same, with metrics as the optimizer takes them.

    Raises:
        InvalidInput: names the bad ones, and what is wrong with each.
    """
    needed, found, bad = sorted(optimizer.required_metrics), [], list[tuple[str, str]]()
    for one in given:
        try:
            if one.problem:
                raise InvalidInput(one.problem)
            optimizer.validate(one.parameters)
            found.append(attrs.evolve(one, metrics=_metrics(one, needed)))
        except (ValueError, TypeError) as error:  # a user's own optimizer may compare a text
            bad.append((one.where, str(error)))
    if bad:
        raise InvalidInput(_refusal(source, len(given), bad))
    return found


def _metrics(one: Measurement, needed: Sequence[str]) -> Metrics:
    if missing := [name for name in needed if name not in one.metrics]:
        raise InvalidResult(f"there is no value of {', '.join(map(repr, missing))}")
    result = JobResult(metrics=dict(one.metrics))
    # All are required: what was measured is not left out.
    return read_result(result, objectives=needed, required=one.metrics, limit=0).metrics


def _refusal(source: str, total: int, bad: Sequence[tuple[str, str]]) -> str:
    reasons = {reason for _, reason in bad}
    if len(bad) == total > 1 and len(reasons) == 1:
        lines = [f"each of them: {reasons.pop()}"]
    else:
        lines = [f"{where}: {reason}" for where, reason in bad[:SHOWN]]
        if len(bad) > SHOWN:
            lines.append(f"and {len(bad) - SHOWN} more")
    return (
        f"{source}: {len(bad)} of {total} results cannot be used, so nothing was attached:\n  "
        + "\n  ".join(lines)
        + "\nCorrect them, leave them out, or widen the search space."
    )


# ---- tables ------------------------------------------------------------------------------------


@frozen
class Table:
    """What the user gave, as rows of cells."""

    source: str
    columns: Sequence[Any]
    rows: Sequence[tuple[str, Mapping[Any, Any] | str]]
    """For each row its place, and its cells by column, or what is wrong with it."""
    text: bool = False
    """True if each cell is a text."""


def read(data: Any) -> Table:
    """Read a table in any of its forms; see `PastData.attach_data`.

    Raises:
        InvalidInput: it has none of the forms, or the file cannot be read.
    """
    if isinstance(data, str | os.PathLike):
        return _of_csv(Path(data).expanduser())
    if isinstance(data, Mapping):
        return _of_columns("the mapping", list(data), list(data.values()))
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # pandas is not imported for this
        names = list(data.columns)
        return _of_columns("the DataFrame", names, [data.iloc[:, i] for i in range(len(names))])
    if isinstance(data, Iterable) and not isinstance(data, bytes):
        return _of_rows(list(data))
    raise InvalidInput(f"Expected {_FORMS}, got {type(data).__name__}: {data!r:.80}")


_FORMS = (
    "a pandas DataFrame, the path of a CSV file, a mapping from column to values, or a list of "
    "mappings"
)


def _of_csv(path: Path) -> Table:
    cells: list[tuple[str, Mapping[Any, Any] | str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = _lines(csv.reader(file, strict=True))
            _, header = next(lines, (0, []))
            columns = [name.strip() for name in header]
            for number, line in lines:
                place = f"line {number}"
                if len(line) != len(columns):
                    words = f"it has {len(line)} cells, and the header has {len(columns)}"
                    cells.append((place, words))
                else:
                    cells.append((place, dict(zip(columns, line, strict=True))))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as a CSV file: {error}.") from error
    if not columns:
        raise InvalidInput(f"{path} is empty: its first line must have the names of the columns.")
    # A column without a name is the index that pandas writes.
    return Table(str(path), [name for name in columns if name], cells, text=True)


def _lines(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line in the file, cells) for each line that is not empty."""
    before = 0
    for cells in reader:
        if cells:
            yield before + 1, cells
        before = reader.line_num


def _of_columns(source: str, names: list[Any], columns: list[Any]) -> Table:
    values: list[list[Any]] = []
    for name, column in zip(names, columns, strict=True):
        wrong = isinstance(column, str | bytes | Mapping | Set)
        if wrong or not isinstance(column, Iterable):
            raise InvalidInput(
                f"{source}: column {name!r} must be a list of values, got {column!r:.80}. One row "
                "may also be given as a list with one mapping."
            )
        values.append(list(column))
    if len({len(column) for column in values}) > 1:
        sizes = ", ".join(f"{n!r}: {len(column)}" for n, column in zip(names, values, strict=True))
        raise InvalidInput(f"{source}: the columns have different numbers of values ({sizes}).")
    rows = zip(*values, strict=True)
    cells = [(f"row {i}", dict(zip(names, row, strict=True))) for i, row in enumerate(rows)]
    return Table(source, names, cells)


def _of_rows(rows: list[Any]) -> Table:
    columns: dict[Any, None] = {}
    cells: list[tuple[str, Mapping[Any, Any] | str]] = []
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            columns |= dict.fromkeys(row)
            cells.append((f"row {number}", row))
        else:
            cells.append((f"row {number}", f"it is no mapping, but {row!r:.80}"))
    return Table("the list", list(columns), cells)


# ---- from cells to measurements ----------------------------------------------------------------


@frozen
class _Columns:
    """Which column holds what."""

    parameters: Sequence[str]
    metrics: Sequence[str]
    sems: Mapping[str, str]
    """Metric -> the column of its standard errors."""
    label: str | None
    types: Mapping[str, str | None] = field(factory=dict)
    """Parameter -> type, of a table of texts."""

    def measurement(self, where: str, cell: Callable[[str, str | None], Any]) -> Measurement:
        """One row. ``cell`` gives the value of a column, read as this type; None: it is empty."""
        parameters = {name: cell(name, self.types.get(name)) for name in self.parameters}
        metrics = {name: cell(name, "float") for name in self.metrics}
        for name, column in self.sems.items():
            if (sem := cell(column, "float")) is not None:
                if metrics[name] is None:
                    return Measurement(where, problem=f"there is {column!r}, but no {name!r}")
                metrics[name] = (metrics[name], sem)
        label = cell(self.label, "str") if self.label else None
        notes = None if label is None else {ARM_NAME: str(label)}
        return Measurement(where, _without_none(parameters), _without_none(metrics), notes)


def measurements(
    table: Table, optimizer: Optimizer, ignore: Collection[str] = ()
) -> list[Measurement]:
    """The rows of a table; on the thread that owns the optimizer.

    Args:
        table: what the user gave.
        optimizer: has the names and types of the columns.
        ignore: columns to leave out.

    Raises:
        InvalidInput: a column is unknown, or appears twice.
    """
    parameters, metrics = optimizer.parameter_names, optimizer.metric_names
    names = {*parameters, *metrics}
    sems = {name: name + SEM for name in metrics if name + SEM not in names}
    label = None if ARM_NAME in names else ARM_NAME
    _check_columns(table, parameters, metrics, [*sems.values(), ARM_NAME], ignore)
    described = optimizer.describe()["parameters"]
    columns = _Columns(
        parameters, metrics, sems, label, {one["name"]: one.get("type") for one in described}
    )

    def measurement(where: str, cells: Mapping[Any, Any] | str) -> Measurement:
        if isinstance(cells, str):
            return Measurement(where, problem=cells)
        kept = {name: value for name, value in cells.items() if name not in ignore}
        return columns.measurement(where, _reader(kept, text=table.text))

    return [measurement(where, cells) for where, cells in table.rows]


def _reader(cells: Mapping[Any, Any], *, text: bool) -> Callable[[str, str | None], Any]:
    """The value of a column in a row; None: there is none."""

    def cell(name: str, kind: str | None) -> Any:
        value = cells.get(name)
        if text:
            return None if not value or not value.strip() else _from_text(value, kind)
        return None if _is_missing(value) else _plain(value)

    return cell


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _from_text(text: str, kind: str | None) -> Any:
    """A cell of a file as a value of this type; the same text if it is not one."""
    if kind == "str":
        return text
    if kind == "bool":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    for convert in (float,) if kind == "float" else (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _is_missing(value: Any) -> bool:
    empty = isinstance(value, float) and math.isnan(value)
    return value is None or empty or type(value).__name__ in ("NAType", "NaTType")  # pandas' own


def _plain(value: Any) -> Any:
    """A scalar of NumPy as one of Python."""
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def _check_columns(
    table: Table,
    parameters: Sequence[str],
    metrics: Sequence[str],
    more: Sequence[str],
    ignore: Collection[str],
) -> None:
    known = [*parameters, *metrics, *more]
    columns = [name for name in table.columns if name not in ignore]
    if unknown := [name for name in columns if name not in known]:
        words = " ".join(f"{name!r}.{did_you_mean(str(name), known)}" for name in unknown)
        raise InvalidInput(
            f"{table.source}: unknown column{'s' if len(unknown) > 1 else ''} {words} The columns "
            f"are the parameters ({', '.join(parameters)}), the metrics ({', '.join(metrics)}), "
            f"standard errors ({metrics[0]}{SEM}) and {ARM_NAME}. To leave out others: "
            f"ignore=[{unknown[0]!r}]."
        )
    if double := [name for name in columns if columns.count(name) > 1]:
        raise InvalidInput(f"{table.source}: the column {double[0]!r} is there twice.")
