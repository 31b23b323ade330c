"""Graphs that were exported on the way, kept in the user's cache by their content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sam2track.backends.export import OPSET, export
from sam2track.backends.manifest import NAME, Exported, Room, hash_of

if TYPE_CHECKING:
    from sam2track.backends.sources import Sources

_CODE = ("network/*.py", "backends/export.py", "backends/static.py")  # what decides what is in the graphs


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
        folder.parent.mkdir(parents=True, exist_ok=True)
        export(sources, folder, room, force=True)
    return Exported.read(folder)


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
