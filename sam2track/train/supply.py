"""Where training clips come from."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from sam2track.train.clips import Clips
from sam2track.train.style import Style

# Style, number of clips, seed -> clips; the same for the same seed.
Supply = Callable[[Style, int, int], Clips]


def mixed(one: Supply, other: Supply, share: float) -> Supply:
    """Batches of which ``share`` of the clips, rounded by chance, come from ``other``."""

    def supply(style: Style, count: int, seed: int) -> Clips:
        second = int(count * share + random.Random(seed).random())  # noqa: S311, nothing secret
        parts = [make(style, each, seed) for make, each in ((one, count - second), (other, second)) if each]
        return Clips(torch.cat([p.frames for p in parts]), torch.cat([p.labels for p in parts]), style.layers)

    return supply
