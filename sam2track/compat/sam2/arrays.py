"""What callers of the official package give: arrays, nested lists, or tensors of any device, with a gradient or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def as_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """``values`` as an array of numpy."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
