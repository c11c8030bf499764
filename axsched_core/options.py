"""Make an attrs class from a user's mapping, or say exactly what is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin

import attrs
import cattrs

from axsched_core import plain
from axsched_core.errors import InvalidInput, did_you_mean, sentence

_T = TypeVar("_T")


class _WrongType(TypeError):
    def __init__(self, expected: str, value: Any) -> None:
        self.words = f"must be {expected}, not {type(value).__name__}"
        super().__init__(f"{self.words} ({value!r})")


def _strict(kind: type) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if kind is int:
            meant: Any = plain.whole(value)
        elif kind is float:
            meant = plain.number(value)
        else:
            meant = value if isinstance(value, kind) else None
        if meant is None:
            raise _WrongType(kind.__name__, value)
        return kind(meant)

    return structure


_converter = cattrs.Converter(detailed_validation=False)
for _kind in (int, float, str, bool):
    _converter.register_structure_hook(_kind, _strict(_kind))


def build(
    cls: type[_T],
    values: _T | Mapping[str, Any] | None,
    what: str,
    *,
    others: Mapping[str, Iterable[str]] = {},
) -> _T:
    """Make an instance of the attrs class ``cls`` from a mapping.

    Args:
        cls: an attrs class; its annotations and validators define what is valid.
        values: a mapping, an instance (returned unchanged), or None for the defaults.
        what: what the values are, for the message ("config", "runner_options of 'joblib'").
        others: other arguments of the same call, and their keys: a key may be in a wrong place.

    Raises:
        InvalidInput: an unknown key (with the closest match), a wrong type, or a value that
            a validator refuses; the message names the key and the value.
    """
    if isinstance(values, cls):
        return values
    if values is not None and not isinstance(values, Mapping):
        raise InvalidInput(
            f"{what}: expected a mapping or a {cls.__name__}, got {type(values).__name__}."
        )
    given = dict(values or {})
    attrs.resolve_types(cast(Any, cls))
    fields = {f.alias: f for f in attrs.fields(cast(Any, cls)) if f.init}
    for name in given:
        if name not in fields:
            for place, keys in others.items():
                if name in keys:
                    raise InvalidInput(f"{what}: {name!r} belongs in {place}, not here.")
            raise InvalidInput(
                f"{what}: unknown key {name!r}.{did_you_mean(str(name), fields)} "
                f"Known keys: {', '.join(sorted(fields))}."
            )
    secrets = secrets_of(cls)
    made: dict[str, Any] = {}
    for name, value in given.items():
        try:
            made[name] = _structure(value, fields[name])
        except (TypeError, ValueError) as error:
            if name in secrets:
                words = error.words if isinstance(error, _WrongType) else "is not valid"
                raise InvalidInput(f"{what}: {name!r} {words} (its value is secret).") from None
            raise InvalidInput(sentence(f"{what}: {name!r} {error}")) from error
    required = [name for name, one in fields.items() if one.default is attrs.NOTHING]
    if missing := [name for name in required if name not in made]:
        raise InvalidInput(f"{what}: {', '.join(map(repr, missing))} must be given.")
    try:
        return cls(**made)
    except (TypeError, ValueError) as error:
        # attrs validators put the attribute and the class behind the message.
        message = mask(str(error.args[0] if error.args else error), cls, given, made)
        raise InvalidInput(sentence(f"{what}: {message}")) from (None if secrets else error)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def path(given: Any, what: str) -> Path:
    """A path from the user.

    Args:
        given: a str or an ``os.PathLike`` of str.
        what: what it is, for the message ("the script").

    Raises:
        InvalidInput: it is something else, or empty.
    """
    found = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(found, str):
        raise InvalidInput(f"{what} must be a path, as a str or a Path, not {given!r:.80}.")
    if not found:
        raise InvalidInput(f"{what} must be a path, but it is empty.")
    return Path(found)


def size(value: Any) -> int:
    """Bytes, from a number of bytes or a text like "512M", "4g", "1.5GiB" (powers of 1024).

    Raises:
        ValueError: it is neither of the two.
    """
    if (bytes_ := plain.whole(value)) is not None and 0 < bytes_ < 1 << 63:
        return bytes_
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:I?B)?", str(value).strip().upper())
    if not isinstance(value, str) or found is None or not float(found[1]):
        raise ValueError(f"{value!r} is not a size: give bytes, or a text like '512M' or '4G'")
    amount = float(found[1]) * _UNITS[found[2]]
    if amount >= 1 << 63:
        raise ValueError(f"{value!r} is more than any machine has")
    return int(amount)


def secrets_of(cls: type | None) -> tuple[str, ...]:
    """The keys of an options class with fields that are marked ``metadata={"secret": True}``."""
    if cls is None:
        return ()
    fields = attrs.fields(cast(Any, cls))
    return tuple(sorted(one.alias for one in fields if one.metadata.get("secret")))


def mask(text: str, cls: type | None, *values: Any) -> str:
    """``text`` with stars for secrets.

    Args:
        text: a message.
        cls: an options class.
        values: instances of it, or mappings with its keys: everything that the text may quote.
    """
    words: set[str] = set()
    for one in attrs.fields(cast(Any, cls)) if cls is not None else ():
        if one.metadata.get("secret"):
            for given in values:
                found = (
                    given.get(one.alias)
                    if isinstance(given, Mapping)
                    else getattr(given, one.name, None)
                )
                words.update(_spellings(found))
    return _starred(text, words)


def without(text: str, values: Any) -> str:
    """``text`` with stars for all that ``values`` hold and that is long enough to be a secret."""
    return _starred(text, {word for word in _spellings(values) if len(word) > SHORT})


SHORT = 3
"""Characters; a secret has more. Stars for each "1" would make a text unreadable."""


def _starred(text: str, words: Iterable[str]) -> str:
    for word in sorted(words, key=len, reverse=True):  # one may be part of another
        text = text.replace(word, "***")
    return text


def shown(error: BaseException, cls: type | None, *values: Any) -> BaseException | None:
    """``error`` as the cause of another one, or None if its chain quotes a secret."""
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and link not in seen:
        seen.append(link)
        if mask(str(link), cls, *values) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error


def _spellings(value: Any) -> Iterator[str]:
    """All values in mappings and collections, in each form that a message may quote."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _spellings(one)
    elif isinstance(value, bytes):
        yield repr(value)
        yield from _spellings(value.decode(errors="backslashreplace"))
    elif isinstance(value, str):
        if value:
            yield from (value, repr(value), repr(value)[1:-1])
    elif value is not None and not isinstance(value, bool):
        yield from (str(value), repr(value))


def split(values: Mapping[str, Any], secrets: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values that may be written, and the keys of those that may not."""
    open_ = {key: value for key, value in values.items() if key not in secrets}
    return open_, sorted(key for key in values if key in secrets)


def _structure(value: Any, field: attrs.Attribute[Any]) -> Any:
    # A field with a converter accepts more than its annotation says; the converter decides.
    if field.type is None or field.converter is not None:
        return value
    shape = get_origin(field.type)
    if shape is Mapping and not isinstance(value, Mapping):
        raise _WrongType("a mapping", value)
    if shape is Sequence and (isinstance(value, str) or not isinstance(value, Sequence)):
        raise _WrongType("a list", value)
    return _converter.structure(value, field.type)
