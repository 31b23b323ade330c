"""The lines of a masklet file, as values: what each must hold, and how it is written and read.

Times and rates are exact fractions, of seconds and of frames a second, so a value read back equals
what was written. Nothing read is trusted: types, sizes and ranges are checked before a mask is
decoded, and fields that a later version may add are ignored.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from sam2track.data import Box, FrameResult, Prediction
from sam2track.errors import MaskletError, SinkError
from sam2track.masks import rle

FORMAT = "sam2track-masklets"
VERSION = 1
MAX_LINE = 2**25  # bytes; a frame of 16 objects takes some ten thousand
MAX_FRAME_PIXELS = 2**30  # of all masks of one frame together: 1 GiB once decoded


def _fraction(value: object) -> Fraction:
    """The exact value of ``"1001/30000"`` or ``"2"``."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, str) and len(value) <= 100 and set(value) <= set("-/0123456789"):
        with suppress(ValueError, ZeroDivisionError):
            return Fraction(value)
    raise ValueError('expected a fraction as text, such as "1001/30000"')


def readable(name: str) -> str:
    """``name`` with ? for what is no character and so has no place in JSON: a file's name need not be UTF-8."""
    return name.encode(errors="replace").decode()


Exact = Annotated[Fraction, BeforeValidator(_fraction), PlainSerializer(str)]
ObjectId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", arbitrary_types_allowed=True)


class MaskletHeader(_Line):
    """The first line of a masklet file.

    Attributes:
        format: always ``sam2track-masklets``.
        version: of the format.
        source: the source's name, if known.
        width: columns of every frame and mask; 0 in a file without frames whose source is unknown.
        height: rows of the same.
        rate: frames a second, exact; None when it varies or is unknown.
        model: name of the model that made the masklets, if known.
        software: package -> version that made them.
    """

    format: str = FORMAT
    version: int = VERSION
    source: Annotated[str, AfterValidator(readable)] | None = None
    width: int = Field(ge=0)
    height: int = Field(ge=0)
    rate: Exact | None = None
    model: str | None = None
    software: dict[str, str] = Field(default_factory=dict)


class _Rle(_Line):
    size: tuple[int, int]
    counts: str


class _Object(_Line):
    rle: _Rle
    score: Finite
    visible: bool
    box: tuple[Finite, Finite, Finite, Finite] | None


class _Frame(_Line):
    index: int = Field(ge=0)
    time: Exact
    objects: dict[ObjectId, _Object]


def write_header(header: MaskletHeader) -> bytes:
    """The header as a line."""
    return header.model_dump_json().encode() + b"\n"


def read_header(line: bytes) -> MaskletHeader:
    """The header of a masklet file from its first line.

    Raises:
        MaskletError: the line is not a header, or is of another version.
    """
    try:
        header = MaskletHeader.model_validate_json(line)
    except ValidationError as error:
        if FORMAT.encode() in line:
            raise MaskletError(f"line 1: {_first_problem(error)}") from error
        raise MaskletError(f"not a masklet file: line 1 is no {FORMAT} header") from error
    if header.format != FORMAT:
        raise MaskletError(f"line 1 has format {header.format[:60]!r}; expected {FORMAT!r}")
    if header.version != VERSION:
        raise MaskletError(f"format version is {header.version}; this sam2track reads version {VERSION}: update it")
    return header


def write_frame(result: FrameResult) -> bytes:
    """One frame as a line.

    Raises:
        SinkError: a value that no line may hold: a mask of another size, a score that is not finite,
            an id of more than 64 bits, or more than ``MAX_LINE`` bytes in all.
    """
    try:
        objects = {int(i): _to_object(prediction, result.size) for i, prediction in result.objects.items()}
        frame = _Frame(index=int(result.index), time=result.time, objects=objects)
    except ValidationError as error:
        raise SinkError(f"frame {result.index} cannot be written: {_first_problem(error)}") from error
    except ValueError as error:
        raise SinkError(f"frame {result.index} cannot be written: {error}") from error
    line = frame.model_dump_json().encode() + b"\n"
    if len(line) > MAX_LINE:
        raise SinkError(f"frame {result.index} takes {len(line)} bytes; a line may have {MAX_LINE}")
    return line


def read_frame(line: bytes, size: tuple[int, int]) -> FrameResult:
    """One frame of a masklet file whose masks are ``size = (height, width)``.

    Raises:
        MaskletError: what is wrong with the line.
    """
    try:
        frame = _Frame.model_validate_json(line)
    except ValidationError as error:
        raise MaskletError(_first_problem(error)) from error
    height, width = size
    if len(frame.objects) * height * width > MAX_FRAME_PIXELS:
        raise MaskletError(f"{len(frame.objects)} masks of {width}x{height} exceed {MAX_FRAME_PIXELS} pixels a frame")
    objects = {}
    for object_id, item in frame.objects.items():
        try:
            objects[object_id] = _to_prediction(item, height, width)
        except MaskletError as error:
            raise MaskletError(f"object {object_id}: {error}") from error
    return FrameResult(index=frame.index, time=frame.time, size=size, objects=objects)


def software() -> dict[str, str]:
    """The versions of the packages that decide what masks look like."""
    versions = {}
    for package in ("sam2track", "torch", "numpy"):
        with suppress(PackageNotFoundError):  # a source tree that was never installed has no version
            versions[package] = version(package)
    return versions


def _to_object(prediction: Prediction, size: tuple[int, int]) -> _Object:
    encoded = rle.encode(prediction.mask)
    height, width = encoded["size"]
    if (height, width) != size:
        raise ValueError(f"mask is {width}x{height} but the frame is {size[1]}x{size[0]}")
    box = prediction.box
    return _Object(
        rle=_Rle(size=(height, width), counts=encoded["counts"]),
        score=float(prediction.score),
        visible=bool(prediction.visible),
        box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
    )


def _to_prediction(item: _Object, height: int, width: int) -> Prediction:
    if item.rle.size != (height, width):
        raise MaskletError(f"mask is {item.rle.size[1]}x{item.rle.size[0]} but the file is {width}x{height}")
    mask = rle.decode({"size": [height, width], "counts": item.rle.counts})
    return Prediction(mask, item.score, item.visible, _checked_box(item.box, height, width))


def _checked_box(box: Box | None, height: int, width: int) -> Box | None:
    if box is not None and not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise MaskletError(f"box {list(box)} is empty or outside the {width}x{height} frame")
    return box


def _first_problem(error: ValidationError) -> str:
    """The first problem pydantic found, on one line."""
    problem: Any = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:40] for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
