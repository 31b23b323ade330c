"""``sam2.sam2_image_predictor``."""

from sam2track.compat.sam2.images import SAM2ImagePredictor

__all__ = ["SAM2ImagePredictor"]
