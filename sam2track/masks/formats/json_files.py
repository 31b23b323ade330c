"""JSON that may come from anywhere: read up to a size, checked against a model, and every error one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sam2track.errors import MaskletError

MAX_BYTES = 2**28  # an hour of ten objects


class Untrusted(BaseModel):
    """What is expected of a JSON object; further keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Model = TypeVar("Model", bound=Untrusted)


def read_json(path: Path, model: type[Model], what: str) -> Model:
    """The content of a JSON file as a ``model``.

    Args:
        path: the file.
        model: what must be in it.
        what: what it is expected to be, such as ``SA-V``, for messages.

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
        raise MaskletError(f"{path} is not {what}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem: Any = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:40] for part in problem["loc"])
    return " ".join(f"{place}: {problem['msg']}".removeprefix(": ").split())
