"""Masklets in the formats of the field: SA-V, COCO, YouTube-VIS, DAVIS, MOT, MOTS and CVAT."""

from sam2track.masks.formats.conversion import FORMATS, convert

__all__ = ["FORMATS", "convert"]
