"""Cut-outs and photos as tensors: what synthetic clips are made of.

A folder of assets holds ``cutouts/`` (RGBA pictures), ``photos/`` (RGB pictures) and, if it likes,
``turns/`` (RGBA strips of square cells: one object turning a step a cell). It is read once and kept as
uint8 tensors in a cache file. Files of one object (its views, its strip, its crops) always fall on the
same side of the split into training and held-out assets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sam2track.errors import SourceError

CELL = 96  # side of a cut-out as kept, a margin of 4 pixels included
MARGIN = 4
PHOTO = (240, 320)  # height and width of a photo as kept
HELD_OUT = 0.06  # share of the objects and of the photos
UNUSED = ("kodak_", "skimage_")  # photos whose licence is hearsay; photos that the sample clips are made of
SUFFIXES = {".webp", ".png", ".jpg", ".jpeg"}
VERSION = 1

_VIEW = re.compile(r"(_v\d+|_icon|_c\d+)$")
_SOURCE = re.compile(r"^(sh3d|fluent|noto)_")


@dataclass(frozen=True, slots=True)
class Assets:
    """Pictures of one side of the split.

    Attributes:
        sprites: uint8 ``[N, 4, CELL, CELL]`` RGBA; the cells of a turning object lie next to each other.
        stills: how many sprites, from the first, are single pictures.
        cells: cells of each turning object that follow.
        photos: uint8 ``[P, 3, *PHOTO]``.
    """

    sprites: Tensor
    stills: int
    cells: int
    photos: Tensor

    @property
    def turns(self) -> int:
        """Number of turning objects."""
        return (self.sprites.shape[0] - self.stills) // max(self.cells, 1)

    def to(self, device: torch.device | str) -> Assets:
        """Move to where clips are generated."""
        return Assets(self.sprites.to(device), self.stills, self.cells, self.photos.to(device))


def load_assets(folder: Path, cache: Path, held_out: bool = False) -> Assets:
    """Read the training assets of ``folder``, or the held-out ones; packs them into ``cache`` first if needed.

    Raises:
        SourceError: the folder has no cut-outs or no photos, or a picture cannot be read.
    """
    names = {part: _pictures(folder / part) for part in ("cutouts", "photos", "turns")}
    names["photos"] = [path for path in names["photos"] if not path.name.startswith(UNUSED)]
    for part in ("cutouts", "photos"):
        if not names[part]:
            raise SourceError(f"assets {folder / part} hold no pictures; expected {', '.join(sorted(SUFFIXES))} files")
    key = _fingerprint(names.values())
    if not cache.is_file() or torch.load(cache, weights_only=True, mmap=True)["key"] != key:
        _pack(names, key, cache)
    packed = torch.load(cache, weights_only=True)
    side = {part: torch.tensor([_is_held_out(path) == held_out for path in paths]) for part, paths in names.items()}
    turns = packed["turns"][side["turns"]] if names["turns"] else packed["turns"]
    stills = packed["cutouts"][side["cutouts"]]
    photos = packed["photos"][side["photos"]]
    if not len(stills) or not len(photos):
        raise SourceError(f"assets {folder} are too few to hold some out; add cut-outs and photos")
    return Assets(torch.cat([stills, turns.flatten(0, 1)]), len(stills), turns.shape[1], photos)


def fit_sprite(picture: Image.Image, cell: int = CELL, margin: int = MARGIN) -> np.ndarray:
    """An RGBA picture fitted into the middle of a transparent square, uint8 ``[4, cell, cell]``."""
    picture = picture.convert("RGBA")
    scale = (cell - 2 * margin) / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Resizing premultiplied colour keeps the colour of transparent pixels out of the edge.
    small = picture.convert("RGBa").resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    square = Image.new("RGBA", (cell, cell), (0, 0, 0, 0))
    square.paste(small.convert("RGBA"), ((cell - size[0]) // 2, (cell - size[1]) // 2))
    return np.asarray(square).transpose(2, 0, 1)


def _pack(names: dict[str, list[Path]], key: str, cache: Path) -> None:
    strips = [_strip(path) for path in names["turns"]]
    cells = min((len(strip) for strip in strips), default=0)
    packed = {
        "key": key,
        "cutouts": _stack(fit_sprite(picture) for picture in map(_open, names["cutouts"])),
        "photos": _stack(_photo(picture) for picture in map(_open, names["photos"])),
        "turns": _stack(strip[:cells] for strip in strips) if strips else torch.zeros(0, 1, 4, CELL, CELL).byte(),
    }
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f".{cache.name}.partial")
    torch.save(packed, partial)
    partial.replace(cache)


def _stack(pictures: Iterable[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(list(pictures)))


def _strip(path: Path) -> np.ndarray:
    """The cells of a turning object, uint8 ``[cells, 4, CELL, CELL]``."""
    picture = _open(path)
    side = picture.height
    boxes = [(i * side, 0, (i + 1) * side, side) for i in range(picture.width // side)]
    return np.stack([fit_sprite(picture.crop(box), margin=0) for box in boxes])


def _photo(picture: Image.Image) -> np.ndarray:
    height, width = PHOTO
    return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BOX)).transpose(2, 0, 1)


def _open(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise SourceError(f"picture {path} cannot be read ({error}); replace or remove it") from error
    return picture


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def _fingerprint(parts: Iterable[list[Path]]) -> str:
    files = sorted(f"{path.parent.name}/{path.name} {path.stat().st_size}" for paths in parts for path in paths)
    return hashlib.sha256("\n".join([f"version {VERSION} cell {CELL} photo {PHOTO}", *files]).encode()).hexdigest()


def _is_held_out(path: Path) -> bool:
    """Decided by the object's name alone, so that all its files agree and new files change nothing."""
    name = _SOURCE.sub("", _VIEW.sub("", path.stem))
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < HELD_OUT * 2**32
