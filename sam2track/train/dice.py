"""Random numbers on a device, from one seed, without ever waiting for the device."""

from __future__ import annotations

import random

import torch
from torch import Generator, Tensor


class Dice:
    """Numbers that a seed and a device determine. ``host`` is for what Python has to know, such as shapes."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = Generator(device=device).manual_seed(seed)
        self.host = random.Random(seed)  # noqa: S311, nothing secret

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """Normal around 0."""
        return torch.randn(shape, generator=self.generator, device=self.device) * std

    def integer(self, *shape: int, below: int) -> Tensor:
        """Integers in [0, below)."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def chance(self, *shape: int, of: float) -> Tensor:
        """True with probability ``of``."""
        return self.uniform(*shape) < of

    def some(self, count: int, of: float) -> Tensor:
        """Indices of a share ``of`` of ``count`` things: as many as that is, rounded up or down by chance."""
        size = int(count * of + self.host.random())
        return torch.randperm(count, generator=self.generator, device=self.device)[:size]

    def pick(self, weight: Tensor) -> Tensor:
        """One index ``[B]`` of each row of ``weight`` [B, N] >= 0, as likely as its weight.

        By an exponential race; ``torch.multinomial`` would wait for the device to check the weights.
        """
        delay = torch.empty_like(weight).exponential_(generator=self.generator)
        return (weight / delay.clamp_min(1e-30)).argmax(dim=1)
