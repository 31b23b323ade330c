"""The training loop: one step after another, checkpoints that resume exactly, a log.

What is always true: a step's data and prompts depend on the run's seed and the step's number alone, and a
checkpoint holds everything else (weights, their moving average, the optimiser), so a run that was
stopped and resumed gives the weights it would have given.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sam2track.errors import ConfigError, Sam2TrackError
from sam2track.network import weights as checkpoints
from sam2track.network.variants import VARIANTS, Network
from sam2track.train.assets import Assets
from sam2track.train.clips import Dice, make_clips
from sam2track.train.dense import DenseHeads
from sam2track.train.evaluate import held_out_scores
from sam2track.train.initialise import initialise
from sam2track.train.objective import batch_loss
from sam2track.train.recipe import Recipe, Stage

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
LOG = "log.csv"
AVERAGE_EVERY = 4  # steps: often enough, and nearly free
COLUMNS = ("step", "stage", "loss", "rate", "frames_per_s", "minutes", "click", "box", "mask", "tracked", "present")


@dataclass(frozen=True, slots=True)
class Run:
    """What to train, on what, and where it goes.

    Attributes:
        model: a name of ``VARIANTS``.
        recipe: in what order.
        out: folder of the checkpoint, the averaged weights and the log.
        seed: of weights, data and prompts.
        device: where everything runs.
        precision: ``fp32`` or ``bf16`` (autocast).
        log_every: steps between log lines.
        evaluate_every: steps between held-out scores and checkpoints.
    """

    model: str
    recipe: Recipe
    out: Path
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    log_every: int = 20
    evaluate_every: int = 200


class Trainer:
    """Call ``resume`` if a checkpoint may be there, then ``train``."""

    def __init__(self, run: Run, assets: Assets, held_out: Assets) -> None:
        self.run = run
        self.assets, self.held_out = assets, held_out
        self.step = 0
        self.seconds = 0.0
        variant = VARIANTS[run.model]
        self.network = Network(variant, run.recipe.stages[0].style.size)
        initialise(self.network, run.seed)
        self.heads = DenseHeads(variant)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self._place()
        self.optimiser = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), fused=True)

    def train(self, say: Callable[[str], None] = print) -> None:
        """Train to the end of the recipe."""
        losses: list[float] = []
        started, frames = time.perf_counter(), 0
        while self.step < self.run.recipe.steps:
            stage, within = self.run.recipe.at(self.step)
            self._fit_size(stage.style.size)
            losses.append(self._step(stage, within))
            frames += stage.clips * stage.style.frames
            self.step += 1
            ends = self.step % self.run.evaluate_every == 0 or self.step == self.run.recipe.steps
            if ends or self.step % self.run.log_every == 0:
                took = time.perf_counter() - started
                self.seconds += took
                self._report(stage, within, sum(losses) / len(losses), frames / took, ends, say)
                losses, started, frames = [], time.perf_counter(), 0

    def resume(self) -> bool:
        """Continue from the checkpoint in the run's folder; False when there is none."""
        path = self.run.out / CHECKPOINT
        if not path.is_file():
            return False
        saved = torch.load(path, map_location=self.run.device, weights_only=True)
        if saved["model"] != self.run.model:
            raise ConfigError(f"checkpoint {path} is of {saved['model']}, not of {self.run.model}; give another folder")
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.network.load_state_dict(saved["network"])
        self.heads.load_state_dict(saved["heads"])
        self.average = saved["average"]
        self.optimiser.load_state_dict(saved["optimiser"])
        return True

    def save(self) -> None:
        """Write the checkpoint and the averaged weights."""
        self.run.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.run.model,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.run.out / f".{CHECKPOINT}.partial"
        torch.save(state, partial)
        partial.replace(self.run.out / CHECKPOINT)
        checkpoints.save(self.averaged(), self.run.out / WEIGHTS)

    def averaged(self) -> Network:
        """A network of the averaged weights, at the size of the current stage."""
        network = Network(self.network.variant, self.network.sizes.image_size)
        network.load_state_dict(self.average)
        return network.to(self.run.device)

    def _step(self, stage: Stage, within: int) -> float:
        rate = learning_rate(self.run.recipe, stage, within)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seed = self.run.seed * 10_000_019 + self.step
        clips = make_clips(self.assets, stage.style, stage.clips, seed)
        dice = Dice(seed + (1 << 48), clips.labels.device)
        kind = torch.device(self.run.device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.run.precision == "bf16"):
            loss = batch_loss(self.network, self.heads, clips, stage, self.run.recipe.losses, dice)
        if not torch.isfinite(loss):
            raise Sam2TrackError(f"loss is {float(loss)} at step {self.step}; resume with a lower rate or another seed")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters(), self.run.recipe.clip_norm)
        self.optimiser.step()
        self._average()
        return float(loss.detach())

    def _average(self) -> None:
        if self.step % AVERAGE_EVERY:
            return
        decay = min(self.run.recipe.ema, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value.to(self.average[name].dtype), 1 - decay)

    def _report(
        self, stage: Stage, within: int, loss: float, speed: float, ends: bool, say: Callable[[str], None]
    ) -> None:
        row: dict[str, Any] = {
            "step": self.step,
            "stage": self.run.recipe.stages.index(stage),
            "loss": round(loss, 4),
            "rate": f"{learning_rate(self.run.recipe, stage, within):.2e}",
            "frames_per_s": round(speed, 1),
            "minutes": round(self.seconds / 60, 2),
        }
        if ends:
            style = replace(stage.style, frames=4)
            scores = held_out_scores(self.averaged(), self.held_out, style)
            row |= {name: round(value, 3) for name, value in scores.items()}
            self.save()
        log = self.run.out / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        new = not log.is_file()
        with log.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        say("  ".join(f"{name} {value}" for name, value in row.items()) + f"  of {self.run.recipe.steps}")

    def _fit_size(self, size: int) -> None:
        """Switch the network to another image size: the same weights, other position tables."""
        if self.network.sizes.image_size == size:
            return
        state, optimiser = self.network.state_dict(), self.optimiser.state_dict()
        self.network = Network(self.network.variant, size)
        self.network.load_state_dict(state)
        self._place()
        self.optimiser = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), fused=True)
        self.optimiser.load_state_dict(optimiser)

    def _place(self) -> None:
        self.network.to(self.run.device).train()
        self.heads.to(self.run.device).train()
        self.average = {name: value.to(self.run.device) for name, value in self.average.items()}

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [*self.network.parameters(), *self.heads.parameters()]

    def _groups(self) -> list[dict[str, Any]]:
        """Matrices decay; biases, norms and tokens do not."""
        decay = self.run.recipe.weight_decay
        matrices = [p for p in self._parameters() if p.ndim > 1 and min(p.shape[:2]) > 1]
        others = [p for p in self._parameters() if not (p.ndim > 1 and min(p.shape[:2]) > 1)]
        return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate(recipe: Recipe, stage: Stage, within: int) -> float:
    """Warm-up, then a cosine over the stage down to a tenth of its peak (the last stage: to a hundredth)."""
    floor = 0.01 if stage is recipe.stages[-1] else 0.3
    warm = min(recipe.warm_up, stage.steps // 2)
    if within < warm:
        return stage.rate * (within + 1) / warm
    progress = (within - warm) / max(stage.steps - warm, 1)
    return stage.rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
