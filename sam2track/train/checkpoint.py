"""Checkpoints of a run: one file, or compact pieces that fit through a narrow door.

A compact checkpoint keeps numbers in 16 bits, deflated. Who writes one goes on from the rounded state itself,
so that a run that was stopped there and one that was not stay equal. Its pieces are parts of one file and bear
the step and their count in their names; it counts only when they are all there.
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam2track.errors import SinkError, WeightsError

WHOLE = "checkpoint.pt"
PIECE = 15 << 20  # bytes of a piece, at most
MOST = 50  # times as large a checkpoint may become when it is inflated

_PIECE = re.compile(r"checkpoint-(\d{8})-(\d+)of(\d+)\.pt")


def write(state: dict[str, Any], folder: Path, *, compact: bool) -> None:
    """Write ``state``, which has a ``step``, into ``folder``, in place of the checkpoint there.

    Raises:
        SinkError: the disk refuses.
    """
    content = io.BytesIO()
    torch.save(state, content)
    data = deflated(content.getvalue()) if compact else content.getbuffer()
    parts = [data[i : i + PIECE] for i in range(0, len(data), PIECE)] if compact else [data]
    step, count = state["step"], len(parts)
    names = [f"checkpoint-{step:08d}-{i}of{count}.pt" for i in range(1, count + 1)] if compact else [WHOLE]
    old = [path for path in _pieces(folder) if path.name not in names]
    if compact:
        old.append(folder / WHOLE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in zip(names, parts, strict=True):
            partial = folder / f".{name}.partial"
            partial.write_bytes(part)
            partial.replace(folder / name)
        for path in old:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(f"checkpoint in {folder} cannot be written ({error.strerror}); choose another --out") from error


def read(folder: Path, device: str | torch.device = "cpu") -> dict[str, Any] | None:
    """The newest whole checkpoint in ``folder``; None when there is none.

    Raises:
        WeightsError: it is damaged.
    """
    paths = _newest(folder)
    if not paths:
        return None
    content = b"".join(path.read_bytes() for path in paths)
    try:
        content = content if paths[0].name == WHOLE else inflated(content)
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as error:  # a damaged file makes torch raise whatever it likes
        raise WeightsError(f"checkpoint {paths[0]} is damaged; remove it, or give another folder") from error
    if not isinstance(state, dict) or "step" not in state:
        raise WeightsError(f"checkpoint {paths[0]} is not one of a training run; give another folder")
    return state


def halved(value: Any, dtype: torch.dtype) -> Any:
    """Every fp32 tensor in nested dicts and lists stored as ``dtype``, single numbers left as they are."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype == torch.float32 and value.numel() > 1 else value
    if isinstance(value, dict):
        return {key: halved(each, dtype) for key, each in value.items()}
    return [halved(each, dtype) for each in value] if isinstance(value, list) else value


def deflated(data: bytes) -> bytes:
    """``data`` deflated, its even bytes first: the upper halves of 16-bit numbers are much alike."""
    return zlib.compress(data[0::2] + data[1::2], level=3)


def inflated(data: bytes) -> bytes:
    """Undo ``deflated``. Raises ``zlib.error`` for what is damaged or absurdly large."""
    decoder = zlib.decompressobj()
    halves = decoder.decompress(data, MOST * len(data))
    if not decoder.eof:
        raise zlib.error("cut short, or larger than it can be")
    whole = bytearray(len(halves))
    middle = (len(halves) + 1) // 2
    whole[0::2], whole[1::2] = halves[:middle], halves[middle:]
    return bytes(whole)


def _newest(folder: Path) -> list[Path]:
    """Files of the newest checkpoint, in order."""
    sets: dict[tuple[int, int], list[Path]] = {}
    for path in _pieces(folder):
        step, _, count = map(int, _PIECE.fullmatch(path.name).groups())  # type: ignore[union-attr]
        sets.setdefault((step, count), []).append(path)
    for (_, count), paths in sorted(sets.items(), reverse=True):
        if len(paths) == count:
            return sorted(paths, key=lambda path: int(_PIECE.fullmatch(path.name)[2]))  # type: ignore[index]
    return [folder / WHOLE] if (folder / WHOLE).is_file() else []


def _pieces(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*.pt") if _PIECE.fullmatch(path.name)]
