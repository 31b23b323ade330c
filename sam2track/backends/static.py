"""Contract calls on graphs of static shape: pad, choose the bucket, one object after the other, slice.

The contract lets the counts of objects (B), points (P), memory slots (N) and pointers (K) vary and some
inputs be None; an exported graph fixes them all. What is padded carries ``valid`` = 0 and is zero, so that
it weighs e^-50 in every attention: the masks are those of the plain call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from sam2track.backends.manifest import Room
from sam2track.contracts import CONTRACTS, Contract, ImageFeatures, MaskCandidates, Port, PromptEmbeddings, Sizes
from sam2track.contracts import letters as fixed_letters
from sam2track.contracts import shape as shape_of
from sam2track.errors import BackendError, PromptError

# The graphs' inputs and outputs: those of the contracts, with ``valid`` as numbers, which every runtime takes.
GRAPHS: dict[str, Contract] = {
    **CONTRACTS,
    "memory_attention": Contract(
        (*CONTRACTS["memory_attention"].inputs[:-1], Port("valid", ("B", "N+K"))),
        CONTRACTS["memory_attention"].outputs,
    ),
    "mask_decoder": Contract(
        (*CONTRACTS["mask_decoder"].inputs, Port("valid", ("B", "P+1"))), CONTRACTS["mask_decoder"].outputs
    ),
}
_RESULTS: dict[str, Callable[..., Any]] = {
    "image_encoder": ImageFeatures,
    "prompt_encoder": PromptEmbeddings,
    "memory_attention": lambda fused: fused,
    "mask_decoder": MaskCandidates,
    "memory_encoder": lambda tokens: tokens,
}
NO_POINT = -1.0  # label of a padding point


class Runner(Protocol):
    """One loaded graph: reads contiguous tensors on ``device``, writes into those of the outputs."""

    @property
    def device(self) -> torch.device:
        """Where inputs are read and outputs written."""

    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Run the graph once, by port name."""


def buckets(component: str, room: Room) -> tuple[int, ...]:
    """The buckets a component is exported in; ``(0,)`` where nothing but the batch varies."""
    if component == "memory_attention":
        return room.slots
    return {"prompt_encoder": room.points[-1:], "mask_decoder": room.points}.get(component, (0,))


def letters(component: str, bucket: int, sizes: Sizes, room: Room) -> dict[str, int]:
    """Every letter of a graph's ports."""
    varying = {"N": bucket, "K": room.pointers} if component == "memory_attention" else {"P": bucket}
    return fixed_letters(sizes) | {"B": 1} | varying


class StaticComponent:
    """One component of ``Components`` on graphs of static shape, one a bucket.

    Inputs that have the graph's shape already are read where they lie; others are copied into buffers that
    are kept, for each thread its own. Outputs are new tensors, since callers keep them. Calls from several threads take
    turns, unless the graphs can run ``concurrent``ly.
    """

    def __init__(
        self, component: str, runners: Mapping[int, Runner], sizes: Sizes, room: Room, *, concurrent: bool = False
    ) -> None:
        self._component = component
        self._runners = dict(sorted(runners.items()))
        self._letters = {bucket: letters(component, bucket, sizes, room) for bucket in self._runners}
        self._contract = GRAPHS[component]
        self._device = next(iter(runners.values())).device
        self._kept = _Kept()
        self._turn: AbstractContextManager[Any] = nullcontext() if concurrent else threading.Lock()

    def __call__(self, *tensors: Tensor | None) -> Any:
        """Make the contract's call, object by object."""
        batch = max(tensor.shape[0] for tensor in tensors if tensor is not None)
        with torch.inference_mode(), self._turn:
            known = next(iter(self._letters.values()))  # outputs do not depend on the bucket, but for the points
            outputs = {
                port.name: torch.empty(batch, *shape_of(port, known)[1:], device=self._device)
                for port in self._contract.outputs
            }
            for row in range(batch):
                own = [None if t is None else t[row : row + 1] if t.shape[0] > 1 else t for t in tensors]
                self._run(own, {name: output[row : row + 1] for name, output in outputs.items()})
            if self._component == "prompt_encoder":  # padding points all embed alike: the first one is the appended one
                outputs["sparse"] = outputs["sparse"][:, : _length(tensors[0]) + 1]
        return _RESULTS[self._component](*outputs.values())

    def bucket_of(self, *tensors: Tensor | None) -> int:
        """The bucket that the contract's inputs of one object go to."""
        return self._fit(list(tensors))[0]

    def _run(self, own: list[Tensor | None], outputs: dict[str, Tensor]) -> None:
        """Run one object: ``own`` are the contract's inputs at batch 1."""
        bucket, own = self._fit(own)
        ports = self._contract.inputs
        inputs = {p.name: self._admit(p, tensor, bucket) for p, tensor in zip(ports, own, strict=True)}
        self._runners[bucket](inputs, outputs)

    def _fit(self, own: list[Tensor | None]) -> tuple[int, list[Tensor | None]]:
        """The bucket for the inputs of one object, and the graph's inputs before they are padded."""
        if self._component == "memory_attention":
            own, slots = _real(own)
            bucket = self._smallest(slots)
            return bucket, [*own[:-1], _spread(own[-1], slots, bucket)]
        if self._component == "mask_decoder":
            tokens = _length(own[3])
            return self._smallest(tokens - 1), [*own, torch.ones(1, tokens)]
        return self._smallest(_length(own[0]) if self._component == "prompt_encoder" else 0), own

    def _smallest(self, used: int) -> int:
        """The smallest bucket that takes ``used`` slots or points."""
        for bucket in self._runners:
            if bucket >= used:
                return bucket
        most = max(self._runners)
        if self._component == "memory_attention":
            raise BackendError(
                f"memory attention is given {used} slots; its graphs take {most}: export with more --slots"
            )
        raise PromptError(
            f"a prompt of {used} points (a box counts as 2) is more than the {most} that the graphs of "
            f"{self._component} take; give fewer, or export with --points {used}"
        )

    def _admit(self, port: Port, tensor: Tensor | None, bucket: int) -> Tensor:
        """``tensor`` as the graph reads it: where it lies, or zero-padded in a buffer that is kept."""
        shape = shape_of(port, self._letters[bucket])
        dtype = getattr(torch, port.dtype)
        padded = tensor is None or list(tensor.shape) != shape
        if tensor is not None and not padded and self._readable(tensor, dtype):
            return tensor
        buffer = self._kept.buffers.get((port.name, bucket))
        if buffer is None:
            buffer = self._kept.buffers[port.name, bucket] = torch.empty(shape, dtype=dtype, device=self._device)
        if padded:
            buffer.fill_(NO_POINT if port.name == "label" else 0)
        if tensor is not None:
            buffer[tuple(slice(length) for length in tensor.shape)].copy_(tensor)
        return buffer

    def _readable(self, tensor: Tensor, dtype: torch.dtype) -> bool:
        return tensor.dtype == dtype and tensor.device == self._device and tensor.is_contiguous()


class _Kept(threading.local):
    """Buffers of one thread, by port and bucket."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, int], Tensor] = {}


def _length(tensor: Tensor | None) -> int:
    """The second dimension of an input that is never None: points or slots."""
    assert tensor is not None
    return tensor.shape[1]


def _real(own: list[Tensor | None]) -> tuple[list[Tensor | None], int]:
    """The inputs of memory attention for one object, without the slots that pad it to its batch, and their count."""
    s16, tokens, slot, pointer, age, valid = own
    assert tokens is not None
    assert slot is not None
    assert pointer is not None
    slots, pointers = tokens.shape[1], pointer.shape[1]
    real = torch.ones(1, slots + pointers) if valid is None else valid.float().cpu()
    kept = int(real[0, :slots].nonzero().amax()) + 1 if real[0, :slots].any() else 0
    real = torch.cat([real[:, :kept], real[:, slots:]], dim=1)
    return [s16, tokens[:, :kept], slot[:, :kept], pointer, age, real], kept


def _spread(valid: Tensor | None, slots: int, room: int) -> Tensor:
    """``valid`` [1, slots + K] for a graph with ``room`` slots: its pointers begin after those."""
    assert valid is not None
    return torch.cat([valid[:, :slots], torch.zeros(1, room - slots), valid[:, slots:]], dim=1)
