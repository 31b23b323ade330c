"""A session over a whole clip: the official package and ours side by side, and memory on a long clip.

    python -m benchmarks.session                              # nano at 256 px, 200 frames of 540p, 3 objects
    python -m benchmarks.session --model sam2.1-tiny --size 512 --frames 60
    python -m benchmarks.session --long 10 --size 128         # RSS over 10 minutes of 1080p, ours alone

Side by side, both are called by the official interface on the same folder of JPEGs, with the same weights and threads
(fp32 on the CPU), each in a process of its own. ``nano`` has its own weights, others are drawn. Writes JSON beside the
table with ``--json FILE``. Needs the ``dev`` extra and ``sam2==1.1.0`` (``make test`` installs both).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

import sam2track as st
from benchmarks.bounded import resident
from sam2track import hub
from sam2track.compat.sam2.build_sam import build_sam2_video_predictor
from sam2track.masks.metrics import iou
from sam2track.network import weights
from tests.parity import oracle

SAMPLE = Path(__file__).parents[1] / "samples" / "goldfish.mp4"
BOXES = {1: (537, 294, 636, 530), 2: (60, 300, 200, 460), 3: (700, 60, 860, 200)}  # in 960x540
SIDES = ("official", "ours")


def write_frames(folder: Path, count: int) -> None:
    """The sample to and fro, 960x540, as numbered JPEGs."""
    with st.open_source(SAMPLE) as source:
        pictures = [cv2.resize(frame.image[..., ::-1], (960, 540), interpolation=cv2.INTER_CUBIC) for frame in source]
    loop = pictures + pictures[-2:0:-1]
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), loop[index % len(loop)], [cv2.IMWRITE_JPEG_QUALITY, 95])


def load(side: str, model: str, size: int, checkpoint: Path) -> Any:
    """The predictor of one side."""
    if side == "ours":
        extra = [f"++model.image_size={size}"]
        path = None if model == "nano" else checkpoint
        return build_sam2_video_predictor(model, path, device="cpu", hydra_overrides_extra=extra)
    with oracle.quiet():
        predictor = oracle.construct(model, size)
        tensors = weights.read(hub.find("nano") if model == "nano" else checkpoint)
        predictor.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return predictor


def measure(predictor: Any, frames: Path, masks_to: Path) -> dict[str, float]:
    """Run the clip; seconds count from the call of ``init_state``, memory from before it."""
    loaded = resident()
    masks: list[np.ndarray] = []
    started = time.perf_counter()
    with oracle.quiet():
        state = predictor.init_state(str(frames))
        opened = time.perf_counter() - started
        first = 0.0
        for object_id, box in BOXES.items():
            predictor.add_new_points_or_box(state, 0, object_id, box=np.array(box, np.float32))
            first = first or time.perf_counter() - started
        for _, _, logits in predictor.propagate_in_video(state):
            masks.append(np.packbits((logits > 0).numpy()))
    total = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(masks_to, np.stack(masks))
    return {"init_state": opened, "first_mask": first, "total": total, "loaded_mb": loaded, "peak_mb": peak}


def compare(model: str, size: int, count: int, threads: int) -> dict[str, Any]:
    """Both sides, each in its own process, and how well their masks agree."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        write_frames(folder / "frames", count)
        if model != "nano":
            torch.save({"model": oracle.build_official(model, size, seed=1).state_dict()}, folder / "model.pt")
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.session", "--side", side, str(folder)]
            command += ["--model", model, "--size", str(size), "--threads", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows[side] = row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{side:9s} first mask after {row['first_mask']:6.2f} s, all after {row['total']:7.2f} s; "
                f"peak {row['peak_mb']:5.0f} MB ({row['loaded_mb']:.0f} MB with the model loaded)",
                flush=True,
            )
        packed = [np.unpackbits(np.load(folder / f"{side}.npy"), axis=1).reshape(count, 3, -1) for side in SIDES]
        rows["mean_iou"] = float(np.mean([iou(a > 0, b > 0) for a, b in zip(*packed, strict=True)]))
    print(f"mean IoU of the two sides' masks {rows['mean_iou']:.4f} (they decode and resize pictures differently)")
    return rows


def write_long(path: Path, seconds: int) -> None:
    """A 1080p clip at 25 frames/s: the sample's frames, encoded once and repeated."""
    with st.open_source(SAMPLE) as source, av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "30", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        once = []
        for index, frame in enumerate(source):
            picture = av.VideoFrame.from_ndarray(frame.image).reformat(1920, 1080, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            once += stream.encode(picture)
        once += stream.encode(None)
        parts = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.time_base) for p in once]
        for turn in range(seconds * 25 // len(parts)):
            for data, pts, dts, key, time_base in parts:
                packet = av.Packet(data)
                shift = round(turn * len(parts) / 25 / time_base)
                packet.pts, packet.dts, packet.time_base, packet.stream = pts + shift, dts + shift, time_base, stream
                packet.is_keyframe = key
                output.mux(packet)


def long(model: str, size: int, minutes: int, memory_mb: int) -> dict[str, Any]:
    """Resident memory along a long clip."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "long.mp4"
        write_long(path, minutes * 60)
        started = time.perf_counter()
        budget = st.Budget(memory=memory_mb * 2**20)
        with st.Session(path, model, image_size=size, device="cpu", budget=budget) as session:
            print(f"{len(session.video)} frames of 1080p, opened in {time.perf_counter() - started:.1f} s", flush=True)
            session.prompt(0, 1, st.Prompt(box=tuple(2 * side for side in BOXES[1])))
            samples = {0: resident()}
            for result in session.propagate():
                if result.index % 500 == 499:
                    samples[result.index] = resident()
                    print(f"frame {result.index:6d}: {samples[result.index]:7.1f} MB", flush=True)
        seconds = time.perf_counter() - started
    late = sorted(samples)[len(samples) // 2 :]
    growth = (samples[late[-1]] - samples[late[0]]) * 2**20 / (late[-1] - late[0])
    print(f"{growth:.0f} bytes a frame over the second half; {seconds / len(session.video) * 1e3:.0f} ms a frame")
    return {"samples": samples, "bytes_per_frame": growth}


def main() -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--long", type=int, metavar="MINUTES", help="memory over so many minutes of 1080p instead")
    parser.add_argument("--memory", type=int, default=512, help="MB of memories kept on the long clip")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures here as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.side:
        side, folder = args.side[0], Path(args.side[1])
        predictor = load(side, args.model, args.size, folder / "model.pt")
        print(json.dumps(measure(predictor, folder / "frames", folder / f"{side}.npy")))
        return
    machine = f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, fp32"
    print(f"{args.model} at {args.size} px on the CPU ({machine})")
    if args.long:
        rows = long(args.model, args.size, args.long, args.memory)
    else:
        rows = compare(args.model, args.size, args.frames, args.threads)
    if args.json:
        args.json.write_text(json.dumps({"model": args.model, "machine": machine, **rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
