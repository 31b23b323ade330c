"""``sam2.build_sam``."""

from sam2track.compat.sam2.build import (
    build_sam2,
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
)

__all__ = ["build_sam2", "build_sam2_hf", "build_sam2_video_predictor", "build_sam2_video_predictor_hf"]
