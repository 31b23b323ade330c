"""``sam2.automatic_mask_generator``."""

from sam2track.compat.sam2.automatic import SAM2AutomaticMaskGenerator

__all__ = ["SAM2AutomaticMaskGenerator"]
