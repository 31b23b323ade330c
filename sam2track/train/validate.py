"""Annotated videos: the second yardstick of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam2track.datasets import AnnotatedClip
from sam2track.evaluation import evaluate
from sam2track.masks.scores import mean_score
from sam2track.tracker import Tracker


def footage_score(clips: Sequence[AnnotatedClip], model: str, weights: Path, size: int, device: str) -> float:
    """Mean J&F over all objects of annotated clips, tracked from their masks by ``model`` with ``weights``."""
    tracker = Tracker.load(model, weights=weights, image_size=size, device=device)
    return mean_score(score for clip in evaluate(clips, tracker) for score in clip.objects.values()).jf
