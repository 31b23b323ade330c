"""Small constant tensors, copied to a device once: every copy from the host makes it wait for the device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...] | tuple[int, ...], device: torch.device) -> Tensor:
    """``values`` as a tensor on ``device``; not to be written to."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
