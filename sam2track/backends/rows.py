"""Objects of one batch, shared among threads.

Where the engine encodes a frame while it tracks in the one before, a small model's operations get a part of the
cores each. With one object that keeps all cores busy; with several, tracking takes longer than encoding and needs
help. Unlike an operation split among cores, a batch split by objects does not wait at the end of every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from sam2track.contracts import CONTRACTS

_helpers: ThreadPoolExecutor | None = None
_count = 0  # of its threads


def set_helpers(count: int) -> None:
    """Have ``count`` threads help with the objects of a batch on a CPU, for the whole process; 0, as at first: none.

    Each runs its operations with as many threads as torch gives one: ``torch.get_num_threads()``.
    """
    global _helpers, _count
    before = _helpers
    _count, _helpers = count, ThreadPoolExecutor(count, thread_name_prefix="sam2track-rows") if count else None
    if before is not None:
        before.shutdown()


def sharing_rows(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, the component ``name``, so that the objects of a batch are shared with the helpers."""
    own = [port.dims[0] == "B" for port in CONTRACTS[name].inputs]
    return lambda *inputs: _share(call, inputs, own)


def _share(call: Callable[..., Any], inputs: Sequence[Tensor | None], own: Sequence[bool]) -> Any:
    """``call(*inputs)``; ``own`` inputs have a row for each object."""
    rows = [len(tensor) for tensor, each in zip(inputs, own, strict=True) if each and tensor is not None]
    shares = min(_count + 1, *rows) if rows else 1
    if shares < 2 or _helpers is None:
        return call(*inputs)
    parts = [
        tensor.tensor_split(shares) if each and tensor is not None else [tensor] * shares
        for tensor, each in zip(inputs, own, strict=True)
    ]
    mine, *theirs = zip(*parts, strict=True)
    waiting = [_helpers.submit(call, *part) for part in theirs]
    outputs = [call(*mine), *(each.result() for each in waiting)]
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return type(outputs[0])(*map(torch.cat, zip(*outputs, strict=True)))
