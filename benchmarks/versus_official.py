"""The official package and ours, side by side in one run: time per frame and peak memory.

    python -m benchmarks.versus_official                  # time, tiny at 512 px, 1 2 4 8 objects
    python -m benchmarks.versus_official --memory         # peak memory, tiny at 256 px, 100 and 400 frames

Same weights, frames, threads and precision (fp32 on the CPU); the two take turns. Writes JSON beside
the table with ``--json FILE``. Needs the ``dev`` extra and ``sam2==1.1.0`` (``make test`` installs both).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sam2track as st
from sam2track.backends import pytorch
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network
from sam2track.pins import Pin
from tests.parity import oracle

MODEL = "sam2.1-tiny"
WARM_UP = 8  # frames until every memory slot is filled
VIDEO = (360, 640)  # height, width of the masks both sides deliver


def prompts(count: int) -> dict[int, st.Prompt]:
    """``count`` boxes spread over the picture."""
    height, width = VIDEO
    boxes = {}
    for i in range(count):
        x, y = (i % 4) * width / 5 + 40, (i // 4) * height / 3 + 60
        boxes[i + 1] = st.Prompt(box=(x, y, x + 110, y + 90))
    return boxes


def ours(predictor: Any, size: int) -> st.Tracker:
    """Our tracker with the weights of an official predictor."""
    network = Network(VARIANTS[MODEL], size)
    weights.load_official(network, predictor.state_dict())
    return st.Tracker(pytorch.components(network, Pin("torch", "cpu", "fp32")))


def run_ours(tracker: st.Tracker, frames: torch.Tensor, objects: int) -> Iterator[dict[int, np.ndarray]]:
    """Masks of each frame."""
    tracker.reset()
    pixels = np.zeros((*VIDEO, 3), np.uint8)
    for index in range(len(frames)):
        encoded = tracker.encode(st.Frame(pixels, index, Fraction(index, 30)), frames[index : index + 1])
        result = tracker.step(encoded, prompts(objects) if index == 0 else {})
        yield {i: p.mask for i, p in result.objects.items()}


def run_official(predictor: Any, frames: torch.Tensor, objects: int) -> Iterator[dict[int, np.ndarray]]:
    """The same by the official package."""
    state = oracle.begin(predictor, frames, VIDEO)
    for i, prompt in prompts(objects).items():
        predictor.add_new_points_or_box(state, 0, i, box=prompt.box)
    for _, ids, masks in predictor.propagate_in_video(state):
        yield {i: mask[0].numpy() > 0 for i, mask in zip(ids, masks, strict=True)}


def timed(masks: Iterator[dict[int, np.ndarray]]) -> tuple[list[float], list[dict[int, np.ndarray]]]:
    """Seconds and masks of each frame after the warm-up."""
    seconds, kept = [], []
    started = time.perf_counter()
    for index, mask in enumerate(masks):
        now = time.perf_counter()
        if index >= WARM_UP:
            seconds.append(now - started)
            kept.append(mask)
        started = time.perf_counter()
    return seconds, kept


def compare_time(size: int, frame_count: int, counts: list[int], rounds: int) -> list[dict[str, float]]:
    """One row for each number of objects: median seconds of both, their ratio, and how far the masks differ."""
    predictor = oracle.build_official(MODEL, size, seed=1)
    tracker = ours(predictor, size)
    frames = oracle.moving_texture(frame_count, size, seed=2)
    rows = []
    for count in counts:
        seconds: dict[str, list[float]] = {"official": [], "ours": []}
        for _ in range(rounds):
            theirs, reference = timed(run_official(predictor, frames, count))
            mine, masks = timed(run_ours(tracker, frames, count))
            seconds["official"] += theirs
            seconds["ours"] += mine
        differ = np.mean([(a[i] != b[i]).mean() for a, b in zip(reference, masks, strict=True) for i in a])
        official, own = (statistics.median(seconds[side]) for side in ("official", "ours"))
        rows.append(
            {"objects": count, "official": official, "ours": own, "ratio": official / own, "differ": float(differ)}
        )
        print(
            f"{count} objects: official {official * 1e3:7.1f} ms, ours {own * 1e3:7.1f} ms a frame, "
            f"{official / own:.2f} times as fast, {differ:.5%} of pixels differ",
            flush=True,
        )
    return rows


def peak_memory(side: str, frame_count: int, size: int, checkpoint: Path) -> float:
    """Peak resident MB of this process after tracking one object through ``frame_count`` frames."""
    clip = oracle.moving_texture(20, size, seed=2)
    if side == "official":  # its loader holds the whole clip as one tensor
        predictor = oracle.construct(MODEL, size)
        predictor.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
        for _ in run_official(predictor, clip.repeat(frame_count // 20, 1, 1, 1), 1):
            pass
    else:
        tracker = st.Tracker.load(MODEL, weights=str(checkpoint), image_size=size, device="cpu")
        pixels = np.zeros((*VIDEO, 3), np.uint8)
        for index in range(frame_count):
            frame = st.Frame(pixels, index, Fraction(index, 30))
            row = index % 20
            tracker.step(tracker.encode(frame, clip[row : row + 1]), prompts(1) if index == 0 else {})
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare_memory(size: int) -> list[dict[str, float]]:
    """Peak memory of both at 100 and 400 frames, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.pt"
        torch.save({"model": oracle.build_official(MODEL, size, seed=1).state_dict()}, checkpoint)
        for frame_count in (100, 400):
            row: dict[str, float] = {"frames": frame_count}
            for side in ("official", "ours"):
                command = [sys.executable, "-m", "benchmarks.versus_official", "--size", str(size)]
                command += ["--peak", side, str(frame_count), str(checkpoint)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                row[side] = float(done.stdout.split()[-1])
            rows.append(row)
            print(
                f"{frame_count} frames: official {row['official']:.0f} MB, ours {row['ours']:.0f} MB peak", flush=True
            )
    return rows


def main() -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="image size (default 512 for time, 256 for memory)")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", action="store_true", help="compare peak memory instead of time")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the rows here as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with oracle.quiet(), torch.inference_mode():
        if args.peak:
            print(peak_memory(args.peak[0], int(args.peak[1]), args.size, Path(args.peak[2])))
            return
        machine = f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, fp32"
        print(f"{MODEL} on the CPU ({machine})")
        rows = (
            compare_memory(args.size or 256)
            if args.memory
            else compare_time(args.size or 512, args.frames, args.objects, args.rounds)
        )
    if args.json:
        args.json.write_text(json.dumps({"model": MODEL, "machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
