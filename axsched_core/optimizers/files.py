"""Files that optimizers are saved in: which kind they hold, without Ax."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from axsched_core.errors import InvalidInput


def content_of_file(path: Path, what: str) -> Any:
    """The JSON in a file.

    Raises:
        InvalidInput: it cannot be read, or is not complete; ``what`` says what it should be.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidInput(
            f"{path} is not a complete JSON file: it is torn, or not {what}."
        ) from error


def kind_of_file(path: Path) -> str:
    """Which kind of optimizer `save` has written.

    Raises:
        InvalidInput: the file cannot be read, or holds none.
    """
    kind = kind_of(content_of_file(path, "a saved experiment"))
    if not kind:
        raise InvalidInput(
            f"{path} holds no experiment: it was written neither by save_experiment nor by Ax's "
            "own save_to_json_file."
        )
    return kind


def kind_of(content: Any) -> str:
    """Which kind of object a file holds; "" for none that is known."""
    if not isinstance(content, dict) or "experiment" not in content:
        return ""
    if content.get("kind") == "axsched-experiment":
        return "Experiment"
    if "_enforce_sequential_optimization" in content:
        return "AxClient"
    return "Client" if "_type" in content else ""


def why_unwritten(path: Path, error: OSError) -> str:
    """Why a file cannot be written, without the name of the one beside it."""
    if not path.parent.exists():
        return f"there is no folder {path.parent}"
    return error.strerror or str(error)
