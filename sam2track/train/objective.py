"""The training loss of a batch of clips."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2track.contracts import ImageFeatures, MaskCandidates
from sam2track.network.variants import Network
from sam2track.pixels import MEAN, STD
from sam2track.train.constants import constant
from sam2track.train.dense import DenseHeads
from sam2track.train.dice import Dice
from sam2track.train.imitation import Imitation
from sam2track.train.losses import LossWeights, candidate_loss, mask_target
from sam2track.train.prompts import draw_objects
from sam2track.train.recipe import Stage
from sam2track.train.rollout import PROMPT_KINDS, Lesson, Rows, click_and_box, follow, frame_features, make_rows, start


class Objective(nn.Module):
    """A network, its throw-away heads, and the loss of both in one stage: the module that is trained.

    ``stage`` may be set to another one of the same image size at any time.
    """

    def __init__(
        self,
        network: Network,
        heads: DenseHeads,
        weights: LossWeights,
        stage: Stage,
        imitation: Imitation | None = None,
    ) -> None:
        super().__init__()
        self.network, self.heads, self.imitation = network, heads, imitation
        self.weights, self.stage = weights, stage

    def forward(
        self, frames: Tensor, labels: Tensor, layers: int, seed: int, stills: tuple[Tensor, Tensor, int] | None = None
    ) -> Tensor:
        """Mean loss of clips: ``frames`` [B, T, 3, S, S], ``labels`` [B, T, S, S]; prompts are drawn from ``seed``.

        Where the stage has them, the mean loss of ``stills`` (frames, labels and layers as well) is added.
        """
        dice = Dice(seed, labels.device)
        features = self.network.image_encoder(normalise(frames.flatten(0, 1)))
        loss = features.s16.new_zeros((), dtype=torch.float32)
        if self.stage.dense:
            loss = self.stage.dense * self.heads(features, labels, layers)
        if self.imitation is not None and self.stage.imitate:
            loss = loss + self.stage.imitate * self.imitation(features, frames.flatten(0, 1))
        if self.stage.memory:
            loss = loss + self._clips(features, labels, layers, dice)
        else:
            loss = loss + self._stills(features, labels, layers, self.stage.objects, dice)
        if stills is not None and self.stage.stills is not None:
            pictures, labels, layers = stills
            features = self.network.image_encoder(normalise(pictures.flatten(0, 1)))
            loss = loss + self._stills(features, labels, layers, self.stage.stills.objects, dice)
        return loss  # type: ignore[no-any-return]

    def _stills(self, features: ImageFeatures, labels: Tensor, layers: int, objects: int, dice: Dice) -> Tensor:
        """Loss of prompts for ``objects`` on each frame by itself."""
        stills = labels.flatten(0, 1)[:, None]
        rows = make_rows(stills, *draw_objects(dice, stills, layers, objects))
        return self._prompted(click_and_box(self.network, _of(features, rows, 0, 1), rows.masks[:, 0], dice), rows, 0)

    def _clips(self, features: ImageFeatures, labels: Tensor, layers: int, dice: Dice) -> Tensor:
        """Loss of prompts on the first frame and of tracking through the others, with a correction on one."""
        length = labels.shape[1]
        rows = make_rows(labels, *draw_objects(dice, labels, layers, self.stage.objects))
        count = len(rows.clip)
        first = _of(features, rows, 0, length)
        prompted = click_and_box(self.network, first, rows.masks[:, 0], dice)
        loss = 0.5 * self._prompted(prompted, rows, 0)
        for frame in dice.host.sample(range(1, length), self.stage.prompted - 1):
            again = click_and_box(self.network, _of(features, rows, frame, length), rows.masks[:, frame], dice)
            loss = loss + 0.5 * self._prompted(again, rows, frame)
        kind = dice.integer(count, below=PROMPT_KINDS)
        taught, corrected = dice.chance(count, of=self.stage.taught), dice.chance(count, of=self.stage.corrected)
        moment = dice.host.randrange(1, length) if self.stage.corrected else 0
        memories = [start(self.network, first, rows.masks[:, 0], prompted, kind)]
        for frame in range(1, length):
            lesson = Lesson(rows.masks[:, frame], taught, corrected if frame == moment else None)
            decoded, memory = follow(self.network, _of(features, rows, frame, length), memories, lesson, dice)
            memories.append(memory)
            loss = loss + self._mean(decoded[0], lesson.masks, rows.real) / (length - 1)
            if len(decoded) > 1:
                counts = rows.real * corrected * lesson.present
                loss = loss + 0.5 * self._mean(decoded[1], lesson.masks, counts)
        return loss

    def _prompted(self, prompted: list[MaskCandidates], rows: Rows, frame: int) -> Tensor:
        """Mean loss of the prompts on ``frame`` of the objects that it shows."""
        masks = rows.masks[:, frame]
        shown = rows.real * masks.flatten(1).any(dim=1)
        losses = [self._mean(candidates, masks, shown) for candidates in prompted]
        return torch.stack(losses).mean()

    def _mean(self, candidates: MaskCandidates, masks: Tensor, counts: Tensor) -> Tensor:
        """Mean loss of the rows that count."""
        target = mask_target(masks, candidates.logits.shape[-1])
        return (candidate_loss(candidates, target, self.weights) * counts).sum() / counts.sum().clamp_min(1)


def normalise(frames: Tensor) -> Tensor:
    """RGB in [0, 1] to what the image encoder reads."""
    mean, std = (constant(values, frames.device).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (frames - mean) / std


def _of(features: ImageFeatures, rows: Rows, frame: int, length: int) -> ImageFeatures:
    return frame_features(features, rows.clip, frame, length)
