"""Prompts drawn from ground-truth masks, as a user would give them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2track.train.dice import Dice


def draw_objects(dice: Dice, labels: Tensor, layers: int, count: int, least: float = 0.004) -> tuple[Tensor, Tensor]:
    """``count`` objects to follow in each clip: labels ``[B, count]`` and whether they are real ``[B, count]``.

    Drawn from those that cover at least ``least`` of the first frame; when there are too few, repeated.
    """
    area = F.one_hot(labels[:, 0].flatten(1).long(), layers + 1).sum(dim=1)[:, 1:].float()  # [B, layers]
    enough = area >= least * labels.shape[-1] ** 2
    order = (enough.float() + dice.uniform(*area.shape, high=0.5)).argsort(dim=1, descending=True)
    available = enough.sum(dim=1, keepdim=True)
    position = torch.arange(count, device=labels.device)[None] % available.clamp_min(1)
    return order.gather(1, position) + 1, (available > 0).expand(-1, count)


def draw_clicks(dice: Dice, masks: Tensor) -> Tensor:
    """One click ``[B, 2]`` (x, y) in each of ``masks`` [B, S, S], rather well inside than at the edge.

    Drawn from every other row and column; a mask that has no pixel there gets a click anywhere.
    """
    inside = masks[:, None, ::2, ::2].float()
    depth = inside
    for kernel in (3, 7):
        columns = F.max_pool2d(-inside, (kernel, 1), stride=1, padding=(kernel // 2, 0))
        depth = depth - F.max_pool2d(columns, (1, kernel), stride=1, padding=(0, kernel // 2))
    weight = (depth * inside).flatten(1) ** 2 + 1e-6
    pick = dice.pick(weight)
    side = inside.shape[-1]
    return torch.stack([pick % side, pick // side], dim=1).float() * 2


def labels_at(masks: Tensor, xy: Tensor) -> Tensor:
    """1 where the clicks ``xy`` [B, 2] are inside ``masks`` [B, S, S], else 0: long ``[B, 1]``."""
    column, row = xy.long().unbind(1)
    return masks[torch.arange(len(masks), device=masks.device), row, column].long()[:, None]


def draw_boxes(dice: Dice, masks: Tensor, jitter: float = 0.08) -> Tensor:
    """Boxes ``[B, 2, 2]`` (corner, x/y) around ``masks`` [B, S, S], each side off by about ``jitter`` of its length."""
    side = masks.shape[-1]
    corners = []
    for axis in (1, 2):  # columns, then rows
        used = masks.any(dim=axis)
        index = torch.arange(side, device=masks.device)
        corners.append(torch.where(used, index, side).amin(dim=1))
        corners.append(torch.where(used, index + 1, 0).amax(dim=1))
    x0, x1, y0, y1 = (corner.float() for corner in corners)
    length = torch.stack([x1 - x0, y1 - y0], dim=1)[:, None].clamp_min(1)
    box = torch.stack([torch.stack([x0, y0], dim=1), torch.stack([x1, y1], dim=1)], dim=1)
    return (box + dice.normal(len(masks), 2, 2, std=jitter).clamp(-0.2, 0.2) * length).clamp(0, side)
