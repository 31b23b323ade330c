"""The interface of the official ``sam2`` package: change ``sam2`` to ``sam2track.compat.sam2`` in an import.

Names, argument orders, shapes and dtypes are those of ``sam2==1.1.0``. What cannot be done raises a ``ConfigError``
that names it. The names are in the official modules, ``build_sam``, ``sam2_image_predictor``,
``automatic_mask_generator`` and ``sam2_video_predictor``, and all of them here too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2track.compat.sam2.automatic import SAM2AutomaticMaskGenerator
    from sam2track.compat.sam2.build import (
        build_sam2,
        build_sam2_hf,
        build_sam2_video_predictor,
        build_sam2_video_predictor_hf,
    )
    from sam2track.compat.sam2.images import SAM2ImagePredictor
    from sam2track.compat.sam2.video import SAM2VideoPredictor

_HOME_OF = {
    "SAM2AutomaticMaskGenerator": "automatic",
    "SAM2ImagePredictor": "images",
    "SAM2VideoPredictor": "video",
    "build_sam2": "build",
    "build_sam2_hf": "build",
    "build_sam2_video_predictor": "build",
    "build_sam2_video_predictor_hf": "build",
}

__all__ = [
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoPredictor",
    "build_sam2",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sam2track.compat.sam2' has no attribute {name!r}")
    return getattr(import_module(f"sam2track.compat.sam2.{_HOME_OF[name]}"), name)
