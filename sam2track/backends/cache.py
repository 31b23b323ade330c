"""Graphs that were exported on the way, kept in the user's cache by their content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam2track.backends.export import OPSET, export
from sam2track.backends.manifest import NAME, Exported, Room, hash_of
from sam2track.backends.quantize import quantize
from sam2track.errors import BackendError, SinkError

if TYPE_CHECKING:
    from sam2track.backends.sources import Sources

# What decides what is in the graphs.
_CODE = ("network/*.py", "backends/export.py", "backends/static.py", "backends/schemes.py")


def exported(sources: Sources) -> Exported:
    """The graphs of ``sources``, with room for what its config's memory needs; exported now if they are not there.

    Raises:
        BackendError: as ``export``.
    """
    model, size, room = sources.config.model, sources.sizes.image_size, Room.of(sources.config.memory)
    identity = [hash_of(sources.checkpoint), model, size, room.model_dump(), OPSET, _hash_of_code()]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = cache_folder() / "exported" / f"{model}-{size}-{key}"
    if not (folder / NAME).is_file():
        logging.getLogger(__name__).warning("exporting %s at %d px, once, to %s", model, size, folder)
        _export(sources, folder, room)
    return Exported.read(folder)


def with_int8(folder: Exported, components: Sequence[str]) -> Exported:
    """``folder``, one of this cache, with int8 graphs of ``components``, which are made now if they are not there."""
    there = {graph.component for graph in folder.manifest.graphs if graph.precision == "int8"}
    missing = [name for name in components if name not in there]
    if not missing:
        return folder
    logging.getLogger(__name__).warning("quantising %s to int8, once", ", ".join(missing))
    return quantize(folder, "int8", components=missing)


def _export(sources: Sources, folder: Path, room: Room) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        export(sources, folder, room)
    except OSError as error:
        raise BackendError(f"cache {folder.parent} cannot be made ({error.strerror}); set SAM2TRACK_CACHE") from error
    except SinkError:
        if not (folder / NAME).is_file():  # else another process was quicker
            raise


def cache_folder() -> Path:
    """Where this user's caches of sam2track are: ``SAM2TRACK_CACHE``, or a folder in the system's place for caches."""
    own = os.environ.get("SAM2TRACK_CACHE")
    if own:
        return Path(own).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "sam2track" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "sam2track"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "sam2track"


def _hash_of_code() -> str:
    package = Path(__file__).parent.parent
    files = [file for pattern in _CODE for file in sorted(package.glob(pattern))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
