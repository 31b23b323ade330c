"""Measures over a sequence: frame by frame, then by object, then over objects.

An object counts from the first frame on which it is in the truth or in the prediction, and only if it
is ever in the truth, as in the ``vos-benchmark`` package. All values are shares in [0, 1], but for
decay, which is a difference of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sam2track.data import Mask
from sam2track.masks.metrics import contour_accuracy, decay, iou, recall


class FrameScore(NamedTuple):
    """One object on one frame: J, F, and whether truth and prediction show it."""

    j: float
    f: float
    there: bool
    shown: bool


@dataclass(frozen=True, slots=True)
class Score:
    """One object over a sequence, or the mean of several.

    Attributes:
        j: mean region similarity.
        f: mean contour accuracy.
        j_recall: share of frames with J above 0.5.
        f_recall: the same for F.
        j_decay: J of the first quarter of the frames less that of the last.
        f_decay: the same for F.
        presence: share of frames on which the object is shown if and only if it is there.
    """

    j: float
    f: float
    j_recall: float
    f_recall: float
    j_decay: float
    f_decay: float
    presence: float

    @property
    def jf(self) -> float:
        """J&F, the mean of both."""
        return (self.j + self.f) / 2

    def as_dict(self) -> dict[str, float]:
        """Every measure by its name, J&F first."""
        return {"jf": self.jf, **{name: getattr(self, name) for name in self.__slots__}}


def score_frame(truth: Mapping[int, Mask], predicted: Mapping[int, Mask]) -> dict[int, FrameScore]:
    """Object id -> how well one frame agrees, of the objects on either side.

    Args:
        truth: object id -> bool mask ``[H, W]``; an object that is left out is not there.
        predicted: the same of what is to be scored.

    Raises:
        ValueError: masks differ in size.
    """
    scores = {}
    for i in {**truth, **predicted}:
        given = truth[i] if i in truth else np.zeros_like(predicted[i])
        found = predicted[i] if i in predicted else np.zeros_like(given)
        there, shown = bool(given.any()), bool(found.any())
        scores[i] = FrameScore(iou(given, found), contour_accuracy(given, found), there, shown)
    return scores


def score_objects(frames: Iterable[Mapping[int, FrameScore]]) -> dict[int, Score]:
    """Object id -> its score over the frames of a sequence, of the objects that are ever there."""
    unseen = FrameScore(1.0, 1.0, there=False, shown=False)  # two empty masks agree
    rows: dict[int, list[FrameScore]] = {}
    for frame in frames:
        for i, score in frame.items():
            if score.there or score.shown:
                rows.setdefault(i, [])
        for i, row in rows.items():
            row.append(frame.get(i, unseen))
    return {i: _over_time(row) for i, row in sorted(rows.items()) if any(score.there for score in row)}


def mean_score(scores: Iterable[Score]) -> Score:
    """The mean over objects, each of the same weight.

    Raises:
        ValueError: there is none.
    """
    rows = [[getattr(score, name) for name in Score.__slots__] for score in scores]
    if not rows:
        raise ValueError("no object to take the mean over")
    return Score(*(float(value) for value in np.mean(rows, axis=0)))


def _over_time(row: Sequence[FrameScore]) -> Score:
    j, f = [score.j for score in row], [score.f for score in row]
    return Score(
        j=float(np.mean(j)),
        f=float(np.mean(f)),
        j_recall=recall(j),
        f_recall=recall(f),
        j_decay=decay(j),
        f_decay=decay(f),
        presence=float(np.mean([score.there == score.shown for score in row])),
    )
