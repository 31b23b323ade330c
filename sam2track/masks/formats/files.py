"""Files that may come from anywhere, read up to a size and line by line; files written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sam2track.errors import MaskletError, SinkError
from sam2track.files import written_whole

MAX_BYTES = 2**28  # of a JSON file, which is read at once: an hour of ten objects
MAX_LINE = 2**23


class Untrusted(BaseModel):
    """What is expected of a JSON object; further keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Model = TypeVar("Model", bound=Untrusted)


def read_json(path: Path, model: type[Model], what: str) -> Model:
    """The content of a JSON file as a ``model``; ``what`` it should be is for messages.

    Raises:
        MaskletError: it cannot be read, is larger than ``MAX_BYTES``, is no JSON, or holds something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MaskletError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if len(data) > MAX_BYTES:
        raise MaskletError(f"{path} is larger than {MAX_BYTES} bytes; split it")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        problem: Any = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in problem["loc"])
        text = " ".join(f"{place}: {problem['msg']}".removeprefix(": ").split())
        raise MaskletError(f"{path} is not {what}: {text}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1.

    Raises:
        MaskletError: it cannot be read, is no text, or a line is longer than ``MAX_LINE``.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE or not line.isascii():
                    raise MaskletError(f"{path}: line {number} is too long or no plain text; expected a text file")
                if line.strip():
                    yield number, line.decode().strip()
    except OSError as error:
        raise MaskletError(f"{path} cannot be read ({error.strerror}); check the path") from error


@contextmanager
def text_written_whole(path: Path) -> Iterator[IO[str]]:
    """A text file to write, which takes its name when the block is left without an error.

    Raises:
        SinkError: the disk refuses.
    """
    try:
        with written_whole(path) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
            yield file
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error.strerror}); choose a folder you can write") from error


def write_object(file: IO[str], lists: dict[str, Iterable[Any]], rest: Iterable[tuple[str, Any]]) -> None:
    """Write a JSON object: each of ``lists``, item by item as it comes, and then the ``rest``, asked for only then."""
    file.write("{")
    for key, items in lists.items():
        file.write(f"{json.dumps(key)}: [")
        for number, item in enumerate(items):
            file.write((",\n" if number else "\n") + json.dumps(item))
        file.write("\n],\n")
    file.write(",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rest))
    file.write("}\n")
