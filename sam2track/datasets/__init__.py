"""Datasets of videos with true masks: DAVIS, YouTube-VOS, MOSE and LVOS folders, and SA-V."""

from sam2track.datasets.annotated import AnnotatedClip
from sam2track.datasets.opening import LAYOUTS, open_dataset

__all__ = ["LAYOUTS", "AnnotatedClip", "open_dataset"]
