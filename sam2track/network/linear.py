"""Linear layers, multiplied by oneDNN in plain inference on an x86 CPU.

There torch gives fp32 products to MKL. On an AMD processor (Zen 4), with the shapes of these networks, oneDNN, which
torch ships as well, takes half the time; it also applies the activation on the way out. Its operation is the one
that torch.compile emits, and private: a torch without it computes the same by itself. Everywhere else (in training,
on a GPU, compiled, exported, under autocast) these are torch's own layers.
"""

from __future__ import annotations

import platform
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "gelu"]

WORTH = 1 << 19  # multiplications below which the call costs more than it saves
HAS_ONEDNN = (
    platform.machine().lower() in ("x86_64", "amd64")
    and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


class Linear(nn.Linear):
    """``nn.Linear`` with an activation after it."""

    def forward(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """``[..., in]`` -> ``[..., out]``."""
        return linear(x, self.weight, self.bias, activation)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """``activation(x @ weight.t() + bias)`` of ``x`` [..., in] and ``weight`` [out, in]."""
    if _by_onednn(x, weight):
        algorithm = "none" if activation == "gelu" else ""  # the exact one, by the error function
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)  # type: ignore[no-any-return]
    y = F.linear(x, weight, bias)
    if activation == "none":
        return y
    return F.gelu(y) if activation == "gelu" else F.relu(y)


def plain_cpu(x: Tensor) -> bool:
    """Whether ``x`` is in plain inference on a CPU: neither trained, nor compiled, nor exported."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        HAS_ONEDNN
        and plain_cpu(x)
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.numel() * weight.shape[0] >= WORTH
        and weight.is_contiguous()  # of others it may take a reference path, a thousand times slower
        and bool(torch.backends.mkldnn.enabled)
    )
