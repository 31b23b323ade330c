"""One clip through the network, as the tracker does it, but with gradients and for many objects at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam2track.contracts import ImageFeatures, MaskCandidates, PromptEmbeddings
from sam2track.network.variants import Network
from sam2track.pixels import mask_to_logits, resize_logits
from sam2track.steps import NO_OBJECT
from sam2track.train.clips import Dice
from sam2track.train.prompts import draw_boxes, draw_clicks, labels_at

POINTER_AGES = 15.0  # ages are divided by this (max_pointers - 1)
RECENT = 6
PROMPT_KINDS = 3  # mask, click, box
SURE = 10.0  # object score of what is certain


@dataclass(frozen=True, slots=True)
class Rows:
    """The objects of a batch of clips as rows of one batch.

    Attributes:
        clip: which clip each row belongs to, ``[R]``.
        masks: ground truth, bool ``[R, T, S, S]``.
        real: 1 where the row counts, ``[R]``.
    """

    clip: Tensor
    masks: Tensor
    real: Tensor


@dataclass(frozen=True, slots=True)
class Remembered:
    """What one frame left in memory, for every row."""

    tokens: Tensor  # [R, M, m]
    pointer: Tensor  # [R, d]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the network is told of one frame while it is young.

    Attributes:
        masks: bool ``[R, S, S]``.
        taught: rows whose memory is written from the truth, ``[R]``.
    """

    masks: Tensor
    taught: Tensor


def make_rows(labels: Tensor, objects: Tensor, real: Tensor) -> Rows:
    """Rows for ``objects`` [B, O] of clips with ``labels`` [B, T, S, S]."""
    clips, count = objects.shape
    clip = torch.arange(clips, device=labels.device).repeat_interleave(count)
    masks = labels[clip] == objects.flatten()[:, None, None, None]
    return Rows(clip, masks, real.flatten().float())


def frame_features(features: ImageFeatures, clip: Tensor, frame: int, length: int) -> ImageFeatures:
    """The features of one frame of every row's clip; ``features`` are of B * ``length`` frames."""
    return ImageFeatures(*(maps[clip * length + frame] for maps in features))


def prompt_points(
    network: Network, features: ImageFeatures, xy: Tensor, label: Tensor, prior: Tensor | None = None
) -> MaskCandidates:
    """Decode points (or box corners), with the logits of an earlier mask if there is one."""
    has_prior = None if prior is None else torch.ones(len(xy), device=xy.device)
    embeddings: PromptEmbeddings = network.prompt_encoder(xy, label, prior, has_prior)
    return network.mask_decoder(features.s16_alone, features.s4, features.s8, *embeddings)  # type: ignore[no-any-return]


def click_and_box(network: Network, features: ImageFeatures, masks: Tensor, dice: Dice) -> list[MaskCandidates]:
    """Each row of ``masks`` [R, S, S] prompted by a click, corrected by a second one, and by a box."""
    device = masks.device
    click, box = draw_clicks(dice, masks), draw_boxes(dice, masks)
    label = labels_at(masks, click)
    first = prompt_points(network, features, click[:, None], label)
    second = correct(network, features, masks, (click[:, None], label, first), dice)
    boxed = prompt_points(network, features, box, torch.tensor([[2, 3]], device=device).expand(len(masks), -1))
    return [first, second, boxed]


def correct(
    network: Network, features: ImageFeatures, masks: Tensor, before: tuple[Tensor, Tensor, MaskCandidates], dice: Dice
) -> MaskCandidates:
    """A second click where the first mask is wrong, with that mask as a hint."""
    click, label, candidates = before
    logits = best_alternative(candidates)[0].detach().float()
    wrong = (resize_logits(logits, (masks.shape[1], masks.shape[2]))[:, 0] > 0) ^ masks
    wrong = torch.where(wrong.flatten(1).any(dim=1)[:, None, None], wrong, masks)
    xy = draw_clicks(dice, wrong)
    points, labels = torch.cat([click, xy[:, None]], dim=1), torch.cat([label, labels_at(masks, xy)], dim=1)
    return prompt_points(network, features, points, labels, logits.clamp(-32, 32))


def prompt_masks(network: Network, features: ImageFeatures, masks: Tensor) -> MaskCandidates:
    """Decode a mask prompt, which the tracker does for its pointer."""
    rows, device = len(masks), masks.device
    nothing = torch.zeros(rows, 1, 2, device=device), -torch.ones(rows, 1, dtype=torch.long, device=device)
    given = masks[:, None].float()
    embeddings = network.prompt_encoder(*nothing, None, None, given, torch.ones(rows, device=device))
    return network.mask_decoder(features.s16, features.s4, features.s8, *embeddings)  # type: ignore[no-any-return]


def propagate(network: Network, features: ImageFeatures, memories: list[Remembered]) -> MaskCandidates:
    """Decode the next frame from memories of all frames before it; the first is the prompted one."""
    now, rows, device = len(memories), len(memories[0].pointer), features.s16.device
    used = [0, *range(max(1, now - RECENT), now)]
    tokens = torch.stack([memories[t].tokens for t in used], dim=1)
    slot = torch.tensor([[0] + [now - t for t in used[1:]]], device=device).expand(rows, -1)
    pointer = torch.stack([memory.pointer for memory in memories], dim=1)
    age = torch.tensor([[(now - t) / POINTER_AGES for t in range(now)]], device=device).expand(rows, -1)
    fused = network.memory_attention(features.s16, tokens, slot, pointer, age, None)
    empty = network.prompt_encoder(
        torch.zeros(rows, 1, 2, device=device), -torch.ones(rows, 1, dtype=torch.long, device=device)
    )
    return network.mask_decoder(fused, features.s4, features.s8, *empty)  # type: ignore[no-any-return]


def remember(
    network: Network, features: ImageFeatures, logits: Tensor, score: Tensor, pointer: Tensor, prompted: bool
) -> Remembered:
    """Memory of a frame whose masks are ``logits`` [R, 1, S/4, S/4]."""
    size = network.sizes.image_size
    from_prompt = torch.full((len(logits),), float(prompted), device=logits.device)
    tokens = network.memory_encoder(features.s16, resize_logits(logits, (size, size)), score, from_prompt)
    return Remembered(tokens, pointer)


def best_alternative(candidates: MaskCandidates) -> tuple[Tensor, Tensor]:
    """Logits ``[R, 1, h, w]`` and pointer ``[R, d]`` of the alternative with the best predicted IoU."""
    best = candidates.iou[:, 1:].argmax(dim=1) + 1
    row = torch.arange(len(best), device=best.device)
    return candidates.logits[row, best][:, None], candidates.pointer[row, best]


def start(
    network: Network, features: ImageFeatures, masks: Tensor, prompted: list[MaskCandidates], kind: Tensor
) -> Remembered:
    """Memory of the prompted frame: by the mask itself (kind 0), by the click's (1) or by the box's (2) result."""
    by_mask = prompt_masks(network, features, masks)
    logits = [mask_to_logits(masks[:, None].float())]
    pointers = [by_mask.pointer[:, 0]]
    clicked, boxed = prompted[0], prompted[-1]
    for chosen, pointer in (best_alternative(clicked), (boxed.logits[:, :1], boxed.pointer[:, 0])):
        logits.append(chosen)
        pointers.append(pointer)
    row = torch.arange(len(kind), device=kind.device)
    picked = torch.stack([each.float() for each in logits])[kind, row]
    pointer = torch.stack([each.float() for each in pointers])[kind, row]
    score = torch.full((len(kind), 1), SURE, device=kind.device)
    return remember(network, features, picked, score, pointer, prompted=True)


def follow(
    network: Network, features: ImageFeatures, memories: list[Remembered], truth: Truth | None = None
) -> tuple[MaskCandidates, Remembered]:
    """One tracked frame: propagate, choose, remember what was seen, or the truth where the network is ``taught``."""
    candidates = propagate(network, features, memories)
    logits, pointer = best_alternative(candidates)
    score = candidates.object_score.float()
    seen = logits.float()
    if truth is not None:
        present = truth.masks.flatten(1).any(dim=1)[:, None]
        score = torch.where(truth.taught[:, None], torch.where(present, SURE, -SURE), score)
        seen = torch.where(truth.taught[:, None, None, None], mask_to_logits(truth.masks[:, None].float()), seen)
    seen = torch.where(score[:, :, None, None] > 0, seen, NO_OBJECT)
    return candidates, remember(network, features, seen, score, pointer, prompted=False)
