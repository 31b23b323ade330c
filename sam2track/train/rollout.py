"""One clip through the network, as the tracker does it, but with gradients and for many objects at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam2track.contracts import ImageFeatures, MaskCandidates, PromptEmbeddings
from sam2track.network.variants import Network
from sam2track.pixels import mask_to_logits, resize_logits
from sam2track.steps import NO_OBJECT, PRIOR_LIMIT
from sam2track.train.constants import constant
from sam2track.train.dice import Dice
from sam2track.train.prompts import draw_boxes, draw_clicks, labels_at

POINTER_AGES = 15.0  # ages are divided by this (max_pointers - 1)
RECENT = 6  # unprompted frames whose tokens are read
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
    prompted: Tensor  # [R], 1 where a prompt gave the mask: such a frame stays in memory and bears no age


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the network is told of a frame that it tracks into.

    Attributes:
        masks: ground truth, bool ``[R, S, S]``.
        taught: rows whose memory is written from the truth, because the network is young, ``[R]``.
        corrected: rows that get a corrective click on this frame, if they show their object, ``[R]``; None: no row.
    """

    masks: Tensor
    taught: Tensor
    corrected: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """Rows whose object can be seen, ``[R]``."""
        return self.masks.flatten(1).any(dim=1)


def make_rows(labels: Tensor, objects: Tensor, real: Tensor) -> Rows:
    """Rows for ``objects`` [B, O] of clips with ``labels`` [B, T, S, S]."""
    clips, count = objects.shape
    clip = torch.arange(clips, device=labels.device).repeat_interleave(count)
    masks = labels[clip] == objects.flatten()[:, None, None, None]
    return Rows(clip, masks, real.flatten().float())


def frame_features(features: ImageFeatures, clip: Tensor, frame: int, length: int) -> ImageFeatures:
    """The features of one frame of every row's clip; ``features`` are of B * ``length`` frames."""
    return ImageFeatures(*(maps[clip * length + frame] for maps in features))


def embed(network: Network, *prompts: Tensor | None) -> PromptEmbeddings:
    """Embed prompts in fp32: places are angles of up to many turns, of which bf16 would keep too little."""
    with torch.autocast(network.prompt_encoder.no_mask.device.type, enabled=False):
        return network.prompt_encoder(*prompts)  # type: ignore[no-any-return]


def prompt_points(
    network: Network, features: ImageFeatures, points: tuple[Tensor, Tensor], prior: Tensor | None = None
) -> MaskCandidates:
    """Decode points (or box corners), places and labels, with the logits of an earlier mask if there is one."""
    has_prior = None if prior is None else torch.ones(len(prior), device=prior.device)
    embeddings = embed(network, *points, prior, has_prior)
    return network.mask_decoder(features.s16_alone, features.s4, features.s8, *embeddings)  # type: ignore[no-any-return]


def click_and_box(network: Network, features: ImageFeatures, masks: Tensor, dice: Dice) -> list[MaskCandidates]:
    """Each row of ``masks`` [R, S, S] prompted by a click, corrected by a second one, and by a box."""
    click = draw_clicks(dice, masks)
    point = click[:, None], labels_at(masks, click)
    first = prompt_points(network, features, point)
    prior = best_alternative(first)[0].detach().float()
    xy, label = correction(dice, prior, masks)
    points = torch.cat([point[0], xy], dim=1), torch.cat([point[1], label], dim=1)
    second = prompt_points(network, features, points, prior.clamp(-PRIOR_LIMIT, PRIOR_LIMIT))
    corners = draw_boxes(dice, masks), constant((2, 3), masks.device).expand(len(masks), -1)
    return [first, second, prompt_points(network, features, corners)]


def correction(dice: Dice, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """A click ``[R, 1, 2]`` where the mask of ``logits`` [R, 1, h, w] is wrong, and its label ``[R, 1]``."""
    wrong = (resize_logits(logits, (masks.shape[1], masks.shape[2]))[:, 0] > 0) ^ masks
    wrong = torch.where(wrong.flatten(1).any(dim=1)[:, None, None], wrong, masks)
    xy = draw_clicks(dice, wrong)
    return xy[:, None], labels_at(masks, xy)


def prompt_masks(network: Network, features: ImageFeatures, masks: Tensor) -> MaskCandidates:
    """Decode a mask prompt, which the tracker does for its pointer."""
    rows, device = len(masks), masks.device
    nothing = torch.zeros(rows, 1, 2, device=device), -torch.ones(rows, 1, device=device)
    given = masks[:, None].float()
    embeddings = embed(network, *nothing, None, None, given, torch.ones(rows, device=device))
    return network.mask_decoder(features.s16, features.s4, features.s8, *embeddings)  # type: ignore[no-any-return]


def propagate(
    network: Network, features: ImageFeatures, memories: list[Remembered]
) -> tuple[ImageFeatures, MaskCandidates]:
    """Decode the next frame from memories of all frames before it; also the features it was decoded from."""
    now, rows, device = len(memories), len(memories[0].pointer), features.s16.device
    ago = now - torch.arange(now, device=device)
    prompted = torch.stack([memory.prompted for memory in memories], dim=1) > 0  # [R, now]
    slot = torch.where(prompted, 0, ago.clamp(max=RECENT))
    tokens = torch.stack([memory.tokens for memory in memories], dim=1)
    pointer = torch.stack([memory.pointer for memory in memories], dim=1)
    age = (ago / POINTER_AGES).expand(rows, -1)
    valid = None
    if now > RECENT + 1:  # before that, everything is still in memory
        valid = torch.cat([prompted | (ago <= RECENT), torch.ones_like(prompted)], dim=1)
    fused = network.memory_attention(features.s16, tokens, slot, pointer, age, valid)
    empty = embed(network, torch.zeros(rows, 1, 2, device=device), -torch.ones(rows, 1, device=device))
    features = features._replace(s16_alone=fused)
    return features, network.mask_decoder(fused, features.s4, features.s8, *empty)


def remember(
    network: Network, features: ImageFeatures, seen: tuple[Tensor, Tensor, Tensor], prompted: Tensor
) -> Remembered:
    """Memory of a frame on which masks of logits [R, 1, S/4, S/4], object score and pointer were ``seen``."""
    logits, score, pointer = seen
    size = network.sizes.image_size
    tokens = network.memory_encoder(features.s16, resize_logits(logits, (size, size)), score, prompted)
    return Remembered(tokens, pointer, prompted)


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
    return remember(network, features, (picked, score, pointer), torch.ones_like(score[:, 0]))


def follow(
    network: Network, features: ImageFeatures, memories: list[Remembered], lesson: Lesson, dice: Dice
) -> tuple[list[MaskCandidates], Remembered]:
    """One tracked frame: propagate, correct where the lesson says so, choose, remember what was seen.

    As in the tracker, a correction decodes a click with the propagated mask as a hint from the features that
    memory was fused into, and makes the frame a prompted one.

    Returns:
        What propagation gave, and the correction where there is one; and the frame's memory.
    """
    fused, propagated = propagate(network, features, memories)
    decoded, prompted = [propagated], torch.zeros(len(lesson.masks), device=lesson.masks.device)
    chosen = _chosen(propagated)
    if lesson.corrected is not None:
        prompted = (lesson.corrected & lesson.present).float()
        prior = chosen[0].detach().clamp(-PRIOR_LIMIT, PRIOR_LIMIT)
        decoded.append(prompt_points(network, fused, correction(dice, prior, lesson.masks), prior))
        chosen = _where(prompted > 0, _chosen(decoded[1]), chosen)
    certain = torch.where(lesson.present, SURE, -SURE)[:, None]
    truth = _visible(mask_to_logits(lesson.masks[:, None].float()), certain), certain, chosen[2]
    return decoded, remember(network, features, _where(lesson.taught, truth, chosen), prompted)


def _chosen(candidates: MaskCandidates) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, object score and pointer of the best alternative."""
    logits, pointer = best_alternative(candidates)
    score = candidates.object_score.float()
    return _visible(logits.float(), score), score, pointer.float()


def _visible(logits: Tensor, score: Tensor) -> Tensor:
    return torch.where(score[:, :, None, None] > 0, logits, NO_OBJECT)


def _where(rows: Tensor, one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    logits, score, pointer = (
        torch.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(one, other, strict=True)
    )
    return logits, score, pointer
