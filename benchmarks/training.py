"""How fast a recipe makes its clips and learns from them, stage by stage, and how long it will take.

    python -m benchmarks.training ASSETS --recipe gpu --device cuda --precision bf16 --minutes 26
    python -m benchmarks.training ASSETS --recipe gpu --batch 1 --image-size 64        # a dry run on a CPU

The generator and the step are timed apart, the step on one batch that is made beforehand. ``--minutes`` ends
with the ``--length`` that fits the recipe into that time. On a GPU the most memory a step took is given, and
``--syncs`` names each place where a step waits for the device (it should not, but for its report).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from sam2track.train.assets import Assets, load_assets
from sam2track.train.clips import Clips, make_clips
from sam2track.train.launch import processors
from sam2track.train.loop import Run, Trainer
from sam2track.train.recipe import Recipe, Stage, adapted, recipe_for
from sam2track.train.style import Style
from sam2track.train.supply import Supply


def wait(device: torch.device) -> None:
    """Until everything that was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def generator_seconds(assets: Assets, stage: Stage, repeats: int) -> float:
    """Seconds a batch, the best of ``repeats``."""
    device = assets.photos.device
    best = float("inf")
    for seed in range(repeats + 1):  # the first one warms up
        wait(device)
        start = time.perf_counter()
        make_clips(assets, stage.style, stage.clips, seed)
        if stage.stills is not None:
            make_clips(assets, stage.stills.style, stage.stills.count, seed)
        wait(device)
        best = min(best, time.perf_counter() - start) if seed else best
    return best


def step_seconds(fabric: Fabric, recipe: Recipe, supply: Supply, options: argparse.Namespace) -> float:
    """Seconds a step of the recipe's only stage, after as many that warm up."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options.model, recipe, Path(folder), precision=options.precision, compiled=options.compile)
        run = replace(run, log_every=options.steps, evaluate_every=1 << 30)
        trainer = Trainer(run, fabric, supply)
        watched = options.syncs and fabric.device.type == "cuda"
        if watched:
            torch.cuda.set_sync_debug_mode("warn")
        trainer.train(lines.append)
        if watched:
            torch.cuda.set_sync_debug_mode("default")
    speed = float(lines[1].split("frames_per_s ")[1].split()[0])
    return recipe.stages[0].frames / speed


def measure(
    fabric: Fabric, assets: Assets, stage: Stage, recipe: Recipe, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table."""
    device, frames = fabric.device, stage.frames
    make = generator_seconds(assets, stage, options.repeats)

    @cache
    def batch(style: Style, count: int) -> Clips:
        return make_clips(assets, style, count, 0)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    alone = replace(recipe, stages=(replace(stage, steps=2 * options.steps),))
    learn = step_seconds(fabric, alone, lambda style, count, _: batch(style, count), options)
    gigabytes = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
    return {
        "size": stage.style.size,
        "clips": stage.clips,
        "frames": stage.style.frames,
        "stills": stage.stills.count if stage.stills else 0,
        "steps": stage.steps,
        "made_per_s": round(frames / make, 1),
        "learned_per_s": round(frames / learn, 1),
        "ms_a_step": round(1000 * (make + learn), 1),
        "peak_gb": round(gigabytes, 1),
        "minutes": round(stage.steps * (make + learn) / 60, 2),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--recipe", default="gpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a stage")
    parser.add_argument("--repeats", type=int, default=3, help="timed batches of the generator")
    parser.add_argument("--minutes", type=float, help="time there is for the recipe")
    parser.add_argument("--syncs", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path("runs/.assets.pt"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    fabric = processors(options.device, 1, options.precision)
    assets = load_assets(options.assets, options.cache).to(fabric.device)
    recipe = adapted(recipe_for(options.recipe, options.model), clips=options.batch, size=options.image_size)
    rows = []
    for stage in recipe.stages:
        rows.append(measure(fabric, assets, stage, recipe, options))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    total = sum(row["minutes"] for row in rows)
    print(f"recipe {options.recipe}: {recipe.steps} steps, {total:.1f} minutes")
    if options.minutes is not None:
        print(f"--length {options.minutes / max(total, 1e-9):.3f} fits {options.minutes:g} minutes")
    if options.json is not None:
        options.json.write_text(json.dumps({"device": str(fabric.device), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
