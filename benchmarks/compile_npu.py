"""Compile time, size and load time of every graph of a model for the NPU of a Snapdragon chip.

    python -m benchmarks.compile_npu out/tiny-1024 --model sam2.1-tiny --soc x-elite

Neither weights nor an NPU are needed: a folder that is not there is exported from random weights, which compile
like any others. At 1024 px this takes some minutes and a few GB of memory. Loading is timed on the emulator.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from sam2track import chips
from sam2track.backends import compiled, export, htp
from sam2track.backends.manifest import Exported
from sam2track.config import Config
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network


def export_random(model: str, image_size: int | None, folder: Path) -> Exported:
    """Export ``model`` with random weights."""
    torch.manual_seed(0)
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.safetensors"
        weights.save(Network(VARIANTS[model], image_size), path)
        config = Config.load(model, weights=path, image_size=image_size)
        return export.export(config, folder, tell=lambda line: print(line, flush=True))


def load_seconds(made: compiled.Compiled, chip: chips.Chip) -> float:
    """How long a compiled graph takes to load."""
    start = perf_counter()
    htp.session(made.path, made.graph.component, htp.emulator("this benchmark", chip))
    return perf_counter() - start


def main() -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="exported folder; made from random weights if it is not there")
    parser.add_argument("--model", default="sam2.1-tiny", choices=VARIANTS)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--soc", default="x-elite")
    parser.add_argument("--export-only", action="store_true", help="make the folder and stop")
    parser.add_argument("--json", type=Path, help="write the table here as JSON")
    args = parser.parse_args()
    there = args.folder.is_dir()
    exported = Exported.read(args.folder) if there else export_random(args.model, args.image_size, args.folder)
    if args.export_only:
        return
    chip = chips.find(args.soc)
    rows = []
    print(f"{'graph':24} {'compile s':>10} {'MB':>8} {'load s':>8}")

    def tell(made: compiled.Compiled, done: int, total: int) -> None:
        name, size = f"{made.graph.component} {made.graph.bucket or ''}", made.path.stat().st_size / 1e6
        rows.append({"graph": name.strip(), "compile_s": made.seconds, "mb": size, "load_s": load_seconds(made, chip)})
        print(f"{name:24} {made.seconds:10.1f} {size:8.1f} {rows[-1]['load_s']:8.2f}", flush=True)

    compiled.compile_graphs(exported, [chip], force=True, tell=tell)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GB; {chip.name}, QNN runtime {htp.runtime_version()}")
    if args.json:
        args.json.write_text(json.dumps({"chip": chip.name, "peak_gb": peak, "graphs": rows}) + "\n")


if __name__ == "__main__":
    main()
