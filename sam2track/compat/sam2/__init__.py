"""The interface of the official ``sam2`` package: change ``sam2`` to ``sam2track.compat.sam2`` in an import.

Names, argument orders, shapes and dtypes are those of ``sam2==1.1.0``. What cannot be done raises a ``ConfigError``
that names it. Modules load on use: ``build_sam``, ``sam2_image_predictor``, ``automatic_mask_generator``,
``sam2_video_predictor``.
"""
