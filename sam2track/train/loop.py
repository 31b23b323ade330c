"""The training loop: one step after another, on one processor or several, with checkpoints that resume exactly.

What is always true: a step's data and prompts depend on the run's seed, the step's number and the rank of
the process alone, and a checkpoint holds everything else (weights, their moving average, the optimiser), so
a run that was stopped and resumed gives the weights it would have given. Nothing in a step waits for the
device; what it computed is looked at when it is reported. Only the first process writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam2track.errors import ConfigError, Sam2TrackError, WeightsError
from sam2track.network import weights as checkpoints
from sam2track.network.layers import fourier_table
from sam2track.network.variants import VARIANTS, Network
from sam2track.train import checkpoint
from sam2track.train.dense import DenseHeads
from sam2track.train.imitation import Imitation
from sam2track.train.initialise import initialise
from sam2track.train.log import Log
from sam2track.train.objective import Objective
from sam2track.train.optimiser import learning_rate, parameter_groups
from sam2track.train.recipe import Recipe, Stage, settings
from sam2track.train.supply import Supply
from sam2track.train.teacher import load_teacher

WEIGHTS = "weights.safetensors"
AVERAGE_EVERY = 4  # steps: often enough, and nearly free
KEPT = {"model", "step", "seconds", "network", "heads", "average", "optimiser"}  # in every checkpoint
REPORT = ("step", "stage", "loss", "rate", "frames_per_s", "minutes")
SCORED = ("click", "box", "mask_jf", "click_jf", "presence", "footage_jf")

# Scores of the averaged network, by name. Called by the first process, after the weights were written to a file.
Judge = Callable[[Network], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Run:
    """What to train, how, and where it goes.

    Attributes:
        model: a name of ``VARIANTS``.
        recipe: in what order.
        out: folder of the checkpoint, the averaged weights and the log.
        weights: a checkpoint to go out from; None: from nothing.
        frozen: components that do not learn.
        seed: of weights, data and prompts.
        precision: ``fp32`` or ``bf16`` (autocast).
        compiled: let torch.compile fuse the image encoder.
        compact: checkpoints in 16 bits and in pieces.
        log_every: steps between reports.
        evaluate_every: steps between scores and checkpoints.
        minutes: stop, with a checkpoint, after so long; None: at the end of the recipe.
    """

    model: str
    recipe: Recipe
    out: Path
    weights: Path | None = None
    frozen: tuple[str, ...] = ()
    seed: int = 0
    precision: str = "fp32"
    compiled: bool = False
    compact: bool = False
    log_every: int = 20
    evaluate_every: int = 200
    minutes: float | None = None


class Trainer:
    """Call ``resume`` if a checkpoint may be there, then ``train``.

    Args:
        run: what to do.
        fabric: the processors, launched.
        supply: where clips come from.
        judge: scores that are reported; None: only the loss is.
        stop: asked after each step (of several processes: after each report) whether to end there.
    """

    def __init__(
        self,
        run: Run,
        fabric: Fabric,
        supply: Supply,
        judge: Judge | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run, self.fabric = run, fabric
        self.step, self.seconds = 0, 0.0
        self._supply, self._judge, self._stop = supply, judge, stop
        self._stage = run.recipe.stages[0]
        self.network = Network(VARIANTS[run.model], self._stage.style.size)
        initialise(self.network, run.seed)
        if run.weights is not None:
            checkpoints.load(self.network, run.weights)
        self.heads = DenseHeads(VARIANTS[run.model])
        imitated = any(stage.imitate for stage in run.recipe.stages)
        self.imitation = Imitation(VARIANTS[run.model], load_teacher().to(fabric.device)) if imitated else None
        self.average = {name: value.clone().to(fabric.device) for name, value in self.network.state_dict().items()}
        self._place()

    def train(self, say: Callable[[str], None] = print) -> None:
        """Train to the end of the recipe, until the run's minutes are over, or until it is to stop.

        However it ends, its last step is in the checkpoint; ``say`` gets a line a report.

        Raises:
            Sam2TrackError: the loss is not finite any more; the last checkpoint is from before.
        """
        began = time.perf_counter()
        with Log(self.run.out, (*REPORT, *SCORED), self.step) if self.fabric.is_global_zero else _Silence() as log:
            while self.step < self.run.recipe.steps:
                row = self._until_report()
                late = self.run.minutes is not None and time.perf_counter() - began > 60 * self.run.minutes
                late, stopped = self.fabric.broadcast((late, self._stop()))
                if late or stopped or self.step % self.run.evaluate_every == 0 or self.step == self.run.recipe.steps:
                    row |= self._pause(scored=not stopped)
                log.write(row)
                if self.fabric.is_global_zero:
                    say("  ".join(f"{name} {value}" for name, value in row.items()) + f"  of {self.run.recipe.steps}")
                if late or stopped:
                    return

    def resume(self) -> bool:
        """Continue from the checkpoint in the run's folder; False when there is none.

        Raises:
            ConfigError: the checkpoint is of another model or recipe.
            WeightsError: it is damaged.
        """
        saved = checkpoint.read(self.run.out, self.fabric.device)
        if saved is None:
            return False
        if saved.get("model", self.run.model) != self.run.model:
            raise ConfigError(
                f"the checkpoint in {self.run.out} is of {saved['model']}, not of {self.run.model}; give another --out"
            )
        self._check_recipe(saved.get("recipe", {}))  # older checkpoints have none
        lacking = KEPT - saved.keys()
        if lacking:
            raise WeightsError(f"checkpoint in {self.run.out} lacks {min(lacking)}; remove it, or give another --out")
        self._restore(saved)
        return True

    def _check_recipe(self, saved: dict[str, Any]) -> None:
        """Raise ``ConfigError`` when the recipe of a checkpoint is another one: its steps would mean something else."""
        for name, value in settings(self.run.recipe).items():
            if saved.get(name, value) != value:
                raise ConfigError(
                    f"the checkpoint in {self.run.out} is of another recipe: {name} is {saved[name]} there and {value} "
                    "here; give the same --recipe, --length and so on, or another --out"
                )

    def averaged(self) -> Network:
        """A network of the averaged weights, at the size of the current stage."""
        network = Network(self.network.variant, self.network.sizes.image_size)
        network.load_state_dict(self.average)
        return network.to(self.fabric.device)

    def _until_report(self) -> dict[str, Any]:
        """Steps until there is something to report, and the report."""
        started, frames, losses = time.perf_counter(), 0, []
        while True:
            stage, within = self.run.recipe.at(self.step)
            self._enter(stage)
            rate = learning_rate(self.run.recipe, stage, within)
            losses.append(self._learn(rate))
            frames += stage.frames * self.fabric.world_size
            self.step += 1
            if self.step == self.run.recipe.steps or any(
                self.step % every == 0 for every in (self.run.log_every, self.run.evaluate_every)
            ):
                break
            if self.fabric.world_size == 1 and self._stop():  # several processes have to stop at the same step
                break
        reduced = self.fabric.all_reduce(torch.stack(losses).mean())
        loss = float(cast(Tensor, reduced))  # waits for the device
        if not math.isfinite(loss):
            raise Sam2TrackError(f"loss is {loss} by step {self.step}; start anew with a lower rate or another seed")
        took = time.perf_counter() - started
        self.seconds += took
        return {
            "step": self.step,
            "stage": self.run.recipe.stages.index(stage),
            "loss": round(loss, 4),
            "rate": f"{rate:.2e}",
            "frames_per_s": round(frames / took, 1),
            "minutes": round(self.seconds / 60, 2),
        }

    def _learn(self, rate: float) -> Tensor:
        """One optimiser step; returns the loss, which may not have been computed yet."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        seed = self.run.seed * 10_000_019 + self.step + (self.fabric.global_rank << 44)
        clips, beside = self._supply(self._stage.style, self._stage.clips, seed), None
        if self._stage.stills is not None:
            stills = self._supply(self._stage.stills.style, self._stage.stills.count, seed + (1 << 50))
            beside = stills.frames, stills.labels, stills.layers
        with _attention(self.fabric.device.type, self.run.precision):
            loss: Tensor = self._model(clips.frames, clips.labels, clips.layers, seed + (1 << 48), beside)
        self._stepper.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        norm = self.run.recipe.clip_norm
        self.fabric.clip_gradients(self._model, self._stepper, max_norm=norm, error_if_nonfinite=False)
        self._stepper.step()
        self._update_average()
        return loss.detach()

    def _update_average(self) -> None:
        if self.step % AVERAGE_EVERY:
            return
        decay = min(self.run.recipe.ema, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def _pause(self, *, scored: bool) -> dict[str, float]:
        """Write the weights and the checkpoint, and work out the scores, if they are wanted."""
        state = {
            "model": self.run.model,
            "recipe": settings(self.run.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "heads": self.heads.state_dict(),
            "imitation": {} if self.imitation is None else self.imitation.state_dict(),
            "average": self.average,
            "optimiser": self._optimiser.state_dict(),
        }
        if self.run.compact:  # every process goes on from what one of them writes
            for name, dtype in (("network", torch.float16), ("average", torch.float16), ("optimiser", torch.bfloat16)):
                state[name] = checkpoint.halved(state[name], dtype)
            self._restore(state)
        if not self.fabric.is_global_zero:
            self.fabric.barrier()
            return {}
        averaged = self.averaged()
        checkpoint.write(state, self.run.out, compact=self.run.compact)
        stored = torch.float16 if self.run.compact else torch.float32
        checkpoints.save(averaged, self.run.out / WEIGHTS, stored)
        scores = self._judge(averaged) if scored and self._judge is not None else {}
        self.fabric.barrier()
        return {name: round(value, 4) for name, value in scores.items()}

    def _restore(self, saved: dict[str, Any]) -> None:
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.network.load_state_dict(saved["network"])
        self.heads.load_state_dict(saved["heads"])
        if self.imitation is not None:
            self.imitation.load_state_dict(saved["imitation"])
        for name, value in saved["average"].items():
            self.average[name].copy_(value)
        self._optimiser.load_state_dict(saved["optimiser"])
        self._tabulate()

    def _enter(self, stage: Stage) -> None:
        """Make ``stage`` the current one; at another image size the same weights get other position tables."""
        if stage is self._stage:
            return
        self._stage = self._objective.stage = stage
        if stage.style.size == self.network.sizes.image_size:
            return
        state, optimiser = self.network.state_dict(), self._optimiser.state_dict()
        self.network = Network(self.network.variant, stage.style.size)
        self.network.load_state_dict(state)
        self._place()
        self._optimiser.load_state_dict(optimiser)

    def _place(self) -> None:
        """Put the network and its optimiser onto the processors."""
        for name in self.run.frozen:
            getattr(self.network, name).requires_grad_(False)
        if self.run.compiled:
            self.network.image_encoder.compile(dynamic=False)  # the rest has too many shapes: one a frame and prompt
        self._objective = Objective(
            self.network, self.heads, self.run.recipe.losses, self._stage, self.imitation
        ).train()
        self._optimiser = torch.optim.AdamW(
            parameter_groups(self._objective, self.run.recipe), betas=(0.9, 0.98), fused=True
        )
        self._model, self._stepper = self.fabric.setup(self._objective, self._optimiser)
        self._tabulate()

    def _tabulate(self) -> None:
        """Work out the decoder's position table once and in fp32; nothing it depends on is learned."""
        decoder = self.network.mask_decoder
        decoder.position_table = fourier_table(decoder.side, decoder.frequencies)


@contextmanager
def _attention(device: str, precision: str) -> Iterator[None]:
    """Attention by plain products in bf16 on a CPU, where the fused one's backward pass takes three times fp32's."""
    if (device, precision) != ("cpu", "bf16"):
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # the name says cuda and it rules the CPU as well
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


class _Silence:
    """The log of the processes that write none."""

    def write(self, row: dict[str, Any]) -> None:
        """Forget a row."""

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *error: object) -> None:
        pass
