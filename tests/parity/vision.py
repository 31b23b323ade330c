"""The little of torchvision that the official package's stills ask for; torchvision has no build for this torch.

Written plainly, so that it can be an oracle too: boxes are compared one by one.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ToTensor:
    """A uint8 picture ``[H, W, 3]``, array or PIL, as fp32 ``[3, H, W]`` in [0, 1]."""

    def __call__(self, picture: object) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)


class Resize(nn.Module):
    """A float picture to ``size`` (height, width), bilinear with antialias, as torchvision resizes tensors."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, x: Tensor) -> Tensor:
        size = [self.height, self.width]
        return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


class Normalize(nn.Module):
    """(x - mean) / std, by channel."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def box_area(boxes: Tensor) -> Tensor:
    """Areas of boxes ``[N, 4]`` (x0, y0, x1, y1)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that survive, best first; of equal scores the earlier is better."""
    assert not classes.any(), "the official package puts all boxes in one class"
    order = sorted(range(len(boxes)), key=lambda i: -float(scores[i]))
    kept: list[int] = []
    for i in order:
        if all(not _iou(boxes[i].tolist(), boxes[j].tolist()) > iou_threshold for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def _iou(a: list[float], b: list[float]) -> float:
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across * down
    return across * down / union if union else float("nan")


def install() -> None:
    """Let the official package import this as torchvision."""
    modules = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.ops")}
    boxes = modules["torchvision.ops.boxes"] = ModuleType("torchvision.ops.boxes")
    vars(modules["torchvision.transforms"]).update(ToTensor=ToTensor, Resize=Resize, Normalize=Normalize)
    vars(boxes).update(batched_nms=batched_nms, box_area=box_area)
    for name, module in modules.items():
        sys.modules.setdefault(name, module)
