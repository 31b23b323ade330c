"""The five network components as data: tensor names, shapes and dtypes.

A backend is whatever turns a checkpoint into a ``Components``: five stateless callables that
exchange torch tensors of these shapes. The same tables drive the checks at load, the export and
the documentation.

Letters: B objects, S image size in pixels, G = S / 16 tokens a side, M = G * G tokens, d feature
width, m memory width, N memory slots, K object pointers, P prompt points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

ComponentName = Literal["image_encoder", "prompt_encoder", "memory_attention", "mask_decoder", "memory_encoder"]

STRIDE = 16  # pixels of the model image per token side
MASK_STRIDE = 4  # pixels of the model image per mask logit side


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the rest of the package must know of a loaded model.

    Attributes:
        image_size: S, a multiple of 32.
        width: d, channels of the stride-16 features and of object pointers.
        memory_width: m, channels of a memory token; divides d.
        recent: memory slots for recent frames the temporal code was trained for (6).
    """

    image_size: int
    width: int
    memory_width: int
    recent: int = 6

    @property
    def tokens(self) -> int:
        """M, memory tokens of one frame."""
        return (self.image_size // STRIDE) ** 2

    @property
    def mask_size(self) -> int:
        """Side of the low-resolution mask logits."""
        return self.image_size // MASK_STRIDE


class ImageFeatures(NamedTuple):
    """What the image encoder says of one frame."""

    s4: Tensor  # [1, d/8, S/4, S/4]
    s8: Tensor  # [1, d/4, S/8, S/8]
    s16: Tensor  # [1, d, G, G]
    s16_alone: Tensor  # [1, d, G, G]: s16 for a frame decoded without memory


class PromptEmbeddings(NamedTuple):
    """Prompts as the mask decoder reads them."""

    sparse: Tensor  # [B, P + 1, d]
    dense: Tensor  # [B, d, G, G]


class MaskCandidates(NamedTuple):
    """The decoder's four masks: one for an unambiguous prompt, then three alternatives."""

    logits: Tensor  # [B, 4, S/4, S/4]
    iou: Tensor  # [B, 4], predicted, in [0, 1]
    pointer: Tensor  # [B, 4, d]; the learned no-object pointer where object_score <= 0
    object_score: Tensor  # [B, 1], logit: > 0 means visible


class Port(NamedTuple):
    """One named tensor of a component; dims are letters of the module docstring or fixed sizes."""

    name: str
    dims: tuple[str, ...]
    dtype: str = "float32"


class Contract(NamedTuple):
    """The inputs and outputs of one component, in call order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


CONTRACTS: dict[str, Contract] = {
    "image_encoder": Contract(
        (Port("image", ("1", "3", "S", "S")),),
        (
            Port("s4", ("1", "d/8", "S/4", "S/4")),
            Port("s8", ("1", "d/4", "S/8", "S/8")),
            Port("s16", ("1", "d", "G", "G")),
            Port("s16_alone", ("1", "d", "G", "G")),
        ),
    ),
    "prompt_encoder": Contract(
        (
            Port("xy", ("B", "P", "2")),  # pixels of the model image
            Port("label", ("B", "P")),  # 1 object, 0 not, 2 and 3 box corners, -1 padding
            Port("logits", ("B", "1", "S/4", "S/4")),  # of an earlier mask of the same frame
            Port("has_logits", ("B",)),  # 1 where `logits` counts, else 0
            Port("mask", ("B", "1", "S", "S")),  # a mask prompt, 0 or 1
            Port("has_mask", ("B",)),  # 1 where `mask` counts, else 0
        ),
        (Port("sparse", ("B", "P+1", "d")), Port("dense", ("B", "d", "G", "G"))),
    ),
    "memory_attention": Contract(
        (
            Port("s16", ("1", "d", "G", "G")),
            Port("tokens", ("B", "N", "M", "m")),
            Port("slot", ("B", "N"), "int64"),  # 0 prompted, else frames ago (1..recent)
            Port("pointer", ("B", "K", "d")),
            Port("age", ("B", "K")),  # frames ago / (max_pointers - 1), signed
            Port("valid", ("B", "N+K"), "bool"),
        ),
        (Port("fused", ("B", "d", "G", "G")),),
    ),
    "mask_decoder": Contract(
        (
            Port("features", ("B", "d", "G", "G")),  # fused, s16_alone or (mask prompt) s16
            Port("s4", ("1", "d/8", "S/4", "S/4")),
            Port("s8", ("1", "d/4", "S/8", "S/8")),
            Port("sparse", ("B", "P+1", "d")),
            Port("dense", ("B", "d", "G", "G")),
        ),
        (
            Port("logits", ("B", "4", "S/4", "S/4")),
            Port("iou", ("B", "4")),
            Port("pointer", ("B", "4", "d")),
            Port("object_score", ("B", "1")),
        ),
    ),
    "memory_encoder": Contract(
        (
            Port("s16", ("1", "d", "G", "G")),
            Port("logits", ("B", "1", "S", "S")),
            Port("object_score", ("B", "1")),
            Port("from_prompt", ("B",)),  # 1 where the mask was prompted, else 0
        ),
        (Port("tokens", ("B", "M", "m")),),
    ),
}


def check(component: str, side: str, tensors: Sequence[Tensor | None], sizes: Sizes) -> None:
    """Raise ``ValueError`` unless ``tensors`` fit the ``inputs`` or ``outputs`` (``side``) of a component.

    Letters that no size fixes (B, P, N, K) must agree with one another; a ``None`` fits any port.
    """
    known = letters(sizes)
    ports: tuple[Port, ...] = getattr(CONTRACTS[component], side)
    for port, tensor in zip(ports, tensors, strict=True):
        if tensor is None:
            continue
        for dim, length in zip(port.dims, tensor.shape, strict=False):
            letter, _, more = dim.partition("+")
            if letter in "BPNK":
                known.setdefault(letter, length - int(more if more.isdigit() else 0))
        expected = shape(port, known)
        if list(tensor.shape) != expected or str(tensor.dtype) != f"torch.{port.dtype}":
            raise ValueError(
                f"{component} {side} {port.name} is {tensor.dtype}{list(tensor.shape)}, expected {port.dtype}{expected}"
            )


def letters(sizes: Sizes) -> dict[str, int]:
    """The letters of the module docstring that ``sizes`` fixes."""
    fixed = {"S": sizes.image_size, "G": sizes.image_size // STRIDE, "M": sizes.tokens}
    return fixed | {"d": sizes.width, "m": sizes.memory_width}


def shape(port: Port, known: Mapping[str, int]) -> list[int]:
    """The shape of ``port`` when its letters are ``known``."""
    return [_length(dim, known) for dim in port.dims]


def _length(dim: str, known: Mapping[str, int]) -> int:
    """Evaluate a dim: a number, a letter, ``letter/number``, ``letter+1`` or ``letter+letter``."""
    if "/" in dim:
        letter, divisor = dim.split("/")
        return known[letter] // int(divisor)
    return sum(int(part) if part.isdigit() else known[part] for part in dim.split("+"))


class Evidence(NamedTuple):
    """What the runtime itself said, at load, of where a component runs.

    Attributes:
        proof: in a few words.
        load_seconds: how long loading took.
    """

    proof: str
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Components:
    """Five stateless callables with the signatures of ``CONTRACTS``, and the sizes they were built for.

    ``None`` for ``logits`` and ``mask`` of the prompt encoder means that no object has one, and for ``valid``
    of memory attention that every entry is real; a backend of static shapes fills them in.
    ``placement`` says where each component runs, as ``engine:device:precision``, and ``evidence`` how that is known.
    """

    image_encoder: Callable[[Tensor], ImageFeatures]
    prompt_encoder: Callable[
        [Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None], PromptEmbeddings
    ]
    memory_attention: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]
    mask_decoder: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], MaskCandidates]
    memory_encoder: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    sizes: Sizes
    placement: dict[str, str]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
