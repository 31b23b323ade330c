"""What callers of the official package give: arrays, nested lists of numbers, or tensors of any device and type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def as_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """``values`` as an array of numpy; a tensor may have a gradient."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which numpy has not
    return np.asarray(values)
