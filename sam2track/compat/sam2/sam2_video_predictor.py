"""``sam2.sam2_video_predictor``."""

from sam2track.compat.sam2.video import SAM2VideoPredictor

__all__ = ["SAM2VideoPredictor"]
