"""One video with true masks on some of its frames, whatever dataset it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sam2track.data import Mask


class AnnotatedClip(Protocol):
    """A video and its truth. Nothing is read before it is asked for; any thread may ask.

    Frame indices are those of ``open_source(clip.video)``. Object ids are those of the dataset.
    """

    @property
    def name(self) -> str:
        """Of the sequence; a plain file name."""

    @property
    def video(self) -> Path:
        """A folder of numbered pictures or a video file, for ``open_source``."""

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the frames that have masks, ascending."""

    @property
    def frame_count(self) -> int:
        """How many frames there are; of a video file, as the dataset states it."""

    @property
    def overlapping(self) -> bool:
        """Whether a pixel may belong to several objects; False for label maps."""

    def frame_name(self, index: int) -> str:
        """What the mask file of a frame is called, without its extension."""

    def masks(self, index: int) -> dict[int, Mask]:
        """Object id -> true mask ``[H, W]`` on an annotated frame; objects that are not seen may be left out.

        Raises:
            MaskletError: the annotation is missing, damaged or of an absurd size.
        """
