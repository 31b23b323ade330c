"""What happens to a frame, as pure verbs: encode, propagate, segment, remember.

Tensors in, tensors out; nothing is remembered here. The order on one frame: ``encode`` once, then
``propagate`` for all tracked objects in one batch, ``segment`` for the objects prompted on this
frame, then ``remember`` for all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sam2track.contracts import Components, ImageFeatures, MaskCandidates, PromptEmbeddings
from sam2track.memory import MemoryView
from sam2track.pixels import MASK_LOGIT, mask_to_logits, resize_logits

NO_OBJECT = -1024.0  # mask logits where the object is not visible
STABLE_MARGIN = 0.05  # a mask is stable when raising and lowering the cut by this much
STABLE_IOU = 0.98  # leaves it this much the same
PRIOR_LIMIT = 32.0  # logits of an earlier mask are clamped before they prompt again


class Segmentation(NamedTuple):
    """One mask an object, chosen from the decoder's candidates."""

    logits: Tensor  # [B, 1, S/4, S/4]; NO_OBJECT where not visible
    iou: Tensor  # [B], predicted, in [0, 1]
    pointer: Tensor  # [B, d]
    object_score: Tensor  # [B, 1]


def encode(components: Components, image: Tensor) -> ImageFeatures:
    """Encode one normalised image ``[1, 3, S, S]``, once for all objects."""
    return components.image_encoder(image)


def empty_prompt(components: Components) -> PromptEmbeddings:
    """What the decoder reads when nothing is prompted, batch 1: a single padding point."""
    return components.prompt_encoder(torch.zeros(1, 1, 2), -torch.ones(1, 1), None, None, None, None)


def propagate(
    components: Components, features: ImageFeatures, memory: MemoryView, empty: PromptEmbeddings, visible_above: float
) -> tuple[Tensor, Segmentation]:
    """Follow B objects into this frame. Returns the fused features ``[B, d, G, G]`` and the masks.

    Tracking is ambiguous like a single click, so the best of the three alternative masks is taken.
    """
    fused = components.memory_attention(features.s16, *memory)
    b = fused.shape[0]
    sparse, dense = empty.sparse.expand(b, -1, -1), empty.dense.expand(b, -1, -1, -1)
    candidates = components.mask_decoder(fused, features.s4, features.s8, sparse, dense)
    return fused, best_alternative(candidates, visible_above)


def segment_points(
    components: Components,
    features: ImageFeatures,
    base: Tensor,
    points: tuple[Tensor, Tensor],
    prior: tuple[Tensor, Tensor],
    visible_above: float,
) -> Segmentation:
    """Segment B objects from equally many points each.

    Args:
        components: the network.
        features: of this frame.
        base: ``[B, d, G, G]``: ``s16_alone`` for a new object, fused features for a correction.
        points: ``xy`` [B, P, 2] in model pixels and ``label`` [B, P].
        prior: logits ``[B, 1, S/4, S/4]`` of the object's mask on this same frame, and ``[B]``: 1 where there is one.
        visible_above: object score above which an object is visible.
    """
    logits, has_logits = prior
    prior = logits.clamp(-PRIOR_LIMIT, PRIOR_LIMIT), has_logits
    candidates = decode(components, features, base, points, prior)
    ambiguous = points[1].shape[1] <= 1
    return (best_alternative if ambiguous else single_mask)(candidates, visible_above)


def decode(
    components: Components,
    features: ImageFeatures,
    base: Tensor,
    points: tuple[Tensor, Tensor],
    prior: tuple[Tensor | None, Tensor | None],
) -> MaskCandidates:
    """The decoder's candidates for B prompts of equally many points; arguments as in ``segment_points``.

    Where there are no points (P = 0) but only the logits of an earlier mask, the decoder is given no prompt token.
    """
    xy, label = points
    if label.shape[1]:
        sparse, dense = components.prompt_encoder(xy, label, *prior, None, None)
    else:
        padding = xy.new_zeros(len(xy), 1, 2), -label.new_ones(len(xy), 1)
        sparse, dense = components.prompt_encoder(*padding, *prior, None, None)
        sparse = sparse[:, :0]
    return components.mask_decoder(base, features.s4, features.s8, sparse, dense)


def segment_mask(components: Components, features: ImageFeatures, mask: Tensor) -> Segmentation:
    """Take a mask prompt ``[B, 1, S, S]`` as it is; the decoder only adds the object pointer."""
    b = mask.shape[0]
    embeddings = components.prompt_encoder(torch.zeros(b, 1, 2), -torch.ones(b, 1), None, None, mask, torch.ones(b))
    base = features.s16.expand(b, -1, -1, -1)
    pointer = components.mask_decoder(base, features.s4, features.s8, *embeddings).pointer[:, 0]
    return Segmentation(
        logits=mask_to_logits(mask).to(pointer.device),
        iou=torch.ones(b, device=pointer.device),
        pointer=pointer,
        object_score=torch.full((b, 1), MASK_LOGIT, device=pointer.device),
    )


def remember(
    components: Components, features: ImageFeatures, masks: Segmentation, from_prompt: Tensor, image_size: int
) -> Tensor:
    """Memory tokens ``[B, M, m]`` of this frame, bf16. ``from_prompt`` [B] is 1 where a prompt gave the mask."""
    logits = resize_logits(masks.logits, (image_size, image_size))
    tokens = components.memory_encoder(features.s16, logits, masks.object_score, from_prompt)
    return tokens.to(torch.bfloat16)


def best_alternative(candidates: MaskCandidates, visible_above: float) -> Segmentation:
    """The one of the three alternative masks with the best predicted IoU, and its pointer."""
    best = candidates.iou[:, 1:].argmax(dim=1) + 1
    return _pick(candidates, best, best, visible_above)


def single_mask(candidates: MaskCandidates, visible_above: float) -> Segmentation:
    """The mask for an unambiguous prompt, or the best alternative where it is unstable; always its pointer."""
    best = candidates.iou[:, 1:].argmax(dim=1) + 1
    stable = stability(candidates.logits[:, 0]) >= STABLE_IOU
    choice = torch.where(stable, torch.zeros_like(best), best)
    return _pick(candidates, choice, torch.zeros_like(best), visible_above)


def stability(logits: Tensor) -> Tensor:
    """IoU ``[B]`` between masks ``[B, h, w]`` cut a little above and a little below zero (SAM, appendix B)."""
    inner = (logits > STABLE_MARGIN).flatten(1).sum(dim=1).float()
    outer = (logits > -STABLE_MARGIN).flatten(1).sum(dim=1).float()
    return torch.where(outer > 0, inner / outer, torch.ones_like(outer))


def _pick(candidates: MaskCandidates, mask: Tensor, pointer: Tensor, visible_above: float) -> Segmentation:
    row = torch.arange(mask.shape[0], device=mask.device)
    logits = candidates.logits[row, mask][:, None].float()
    return Segmentation(
        logits=_visible_logits(logits, candidates.object_score, visible_above),
        iou=candidates.iou[row, mask],
        pointer=candidates.pointer[row, pointer],
        object_score=candidates.object_score,
    )


def _visible_logits(logits: Tensor, object_score: Tensor, visible_above: float) -> Tensor:
    return torch.where((object_score > visible_above)[:, :, None, None], logits, NO_OBJECT)
