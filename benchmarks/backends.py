"""What each way to run on a CPU costs: torch in fp32 and bf16, ONNX Runtime in fp32 and int8.

    python -m benchmarks.backends                                  # nano, and tiny at 512 px; 1 and 4 objects
    python -m benchmarks.backends --models nano --objects 1 --frames 12

All ways track the same frames and take turns at every frame; masks are compared with those of torch in
fp32. nano runs its own weights on a sample clip, the other model seeded ones (``tests/parity/oracle.py``) on
made-up frames. Graphs are exported, and quantised, into a temporary cache. Needs the ``dev`` and ``export`` extras.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import sam2track as st
from sam2track.masks.metrics import iou
from sam2track.pixels import MEAN, STD
from tests.parity import oracle

CLIP = Path(__file__).parents[1] / "samples" / "koi.mp4"
KOI = [(22, 80, 193, 158), (439, 214, 611, 289), (358, 196, 424, 353), (30, 85, 185, 155)]
MODELS = {"nano": ("nano", None), "tiny@512": ("sam2.1-tiny", 512)}
HEAVY = ("image_encoder", "memory_attention", "mask_decoder", "memory_encoder")
WAYS = {
    "torch fp32": {"default": "torch:cpu:fp32"},
    "torch bf16": {"default": "torch:cpu:bf16"},
    "onnx fp32": {"default": "onnx:cpu:fp32"},
    "onnx int8": {"default": "onnx:cpu:fp32", **dict.fromkeys(HEAVY, "onnx:cpu:int8")},
}
WARM_UP = 8  # frames until every slot of recent memory is filled


def config(model: str, folder: Path) -> st.Config:
    """The model's config; seeded weights, written to ``folder``, where none come with the package."""
    name, size = MODELS[model]
    if name == "nano":
        return st.Config.load(name, image_size=size)
    checkpoint = folder / f"{name}.pt"
    if not checkpoint.exists():
        with oracle.quiet():
            torch.save({"model": oracle.build_official(name, size, seed=1).state_dict()}, checkpoint)
    return st.Config.load(name, weights=checkpoint, image_size=size)


def pictures(model: str, count: int) -> list[st.Frame]:
    """Frames that the model's weights have something to say of."""
    if model == "nano":
        with st.open_source(CLIP) as source:
            return list(islice(source, count))
    texture = oracle.moving_texture(count, MODELS[model][1], seed=2).permute(0, 2, 3, 1).numpy()
    images = (255 * (texture * STD + MEAN)).clip(0, 255).astype(np.uint8)
    return [st.Frame(image, index, Fraction(index, 30)) for index, image in enumerate(images)]


def prompts(model: str, frame: st.Frame, count: int) -> dict[int, st.Prompt]:
    """``count`` boxes: around fish of the clip, or a quarter of a made-up picture each."""
    w, h = frame.width, frame.height
    corners = [(x * w, y * h, (x + 0.4) * w, (y + 0.4) * h) for y in (0.05, 0.55) for x in (0.05, 0.55)]
    boxes = KOI if model == "nano" else corners
    return {i + 1: st.Prompt(box=box) for i, box in enumerate(boxes[:count])}


def trackers(settings: st.Config) -> dict[str, st.Tracker]:
    """Way -> tracker, of the ways that run here; says why another does not."""
    found = {}
    for way, pins in WAYS.items():
        try:
            found[way] = st.Tracker.load(settings, pin=pins)
        except st.Sam2TrackError as error:
            print(f"{way}: skipped: {error}", flush=True)
    return found


def compare(model: str, ways: dict[str, st.Tracker], frames: list[st.Frame], objects: int) -> list[dict[str, object]]:
    """One row a way: median milliseconds a frame, how many times as fast as torch in fp32, and IoU with its masks."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    agreement: dict[str, list[float]] = {way: [] for way in ways}
    covered = []
    for tracker in ways.values():
        tracker.reset()
    for index, frame in enumerate(frames):
        results = {}
        for way, tracker in ways.items():
            start = time.perf_counter()
            results[way] = tracker.step(frame, prompts(model, frame, objects) if index == 0 else {})
            if index >= WARM_UP:
                seconds[way].append(time.perf_counter() - start)
        truth = {i: p.mask for i, p in results["torch fp32"].objects.items()}
        covered += [mask.mean() for mask in truth.values()]
        for way, result in results.items():
            agreement[way] += [iou(p.mask, truth[i]) for i, p in result.objects.items()]
    plain = seconds["torch fp32"]
    print(f"{model}, {objects} objects: masks cover {100 * np.mean(covered):.1f} % of the picture", flush=True)
    rows = []
    for way in ways:
        row = {
            "model": model,
            "objects": objects,
            "way": way,
            "ms": round(1000 * statistics.median(seconds[way]), 2),
            "times_as_fast": round(statistics.median(a / b for a, b in zip(plain, seconds[way], strict=True)), 3),
            "iou_mean": round(float(np.mean(agreement[way])), 5),
            "iou_min": round(float(np.min(agreement[way])), 5),
        }
        print(
            f"  {way:10}  {row['ms']:9.1f} ms a frame  {row['times_as_fast']:5.2f} times as fast  "
            f"IoU {row['iou_mean']:.4f}, at worst {row['iou_min']:.4f}",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--objects", type=int, nargs="+", choices=range(1, 5), default=[1, 4])
    parser.add_argument("--frames", type=int, default=16, help=f"more than {WARM_UP}, which are not timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep", type=Path, help="keep weights and graphs in this folder, for another run")
    parser.add_argument("--prepare", action="store_true", help="only make what --keep keeps")
    parser.add_argument("--json", type=Path, help="write the rows here as JSON")
    args = parser.parse_args()
    if args.frames <= WARM_UP:
        parser.error(f"--frames {args.frames}: expected more than {WARM_UP}")
    torch.set_num_threads(args.threads)
    machine = f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}"
    print(f"on the CPU ({machine})")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        os.environ["SAM2TRACK_CACHE"] = str(folder)
        for model in args.models:
            ways, frames = trackers(config(model, folder)), pictures(model, args.frames)
            for objects in () if args.prepare else args.objects:
                rows += compare(model, ways, frames, objects)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
