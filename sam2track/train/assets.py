"""Cut-outs and photos as tensors: what synthetic clips are made of.

A folder of assets holds ``cutouts/`` (RGBA pictures), ``photos/`` (RGB pictures) and, if it likes,
``turns/`` (RGBA strips of square cells: one object turning a step a cell) and ``textures/`` (RGB, fill for
shapes). ``pack_assets`` makes a zip of it, its pictures at the size that is kept, which is read like the folder.
Either is read once and kept as uint8 tensors in a cache file. Files of one object (its views, its strip, its
crops) always fall on the same side of the split into training and held-out assets.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sam2track.errors import SinkError, SourceError
from sam2track.files import written_whole

CELL = 128  # side of a cut-out as kept, a margin included
MARGIN = 6
PHOTO = (360, 480)  # height and width of a photo as kept
HELD_OUT = 0.06  # share of the objects and of the photos
UNUSED = ("kodak_", "skimage_")  # photos whose licence is hearsay; photos that the sample clips are made of
PARTS = ("cutouts", "photos", "turns", "textures")
SUFFIXES = {".webp", ".png", ".jpg", ".jpeg"}
LARGEST = 64 << 20  # bytes of one picture's file
MOST_CELLS = 120  # of a turning object: as many as fit into the width of a packed picture
QUALITY = 75  # of packed pictures, WebP
VERSION = 2

_VIEW = re.compile(r"(_v\d+|_icon|_c\d+)$")
_SOURCE = re.compile(r"^(sh3d|fluent|noto)_")

Pixels = NDArray[np.uint8]
File = Path | zipfile.Path


@dataclass(frozen=True, slots=True)
class Assets:
    """Pictures of one side of the split.

    Attributes:
        sprites: uint8 ``[N, 4, CELL, CELL]`` RGBA, colour times alpha; the cells of a turning object lie together.
        stills: how many sprites, from the first, are single pictures.
        cells: cells of each turning object that follow.
        photos: uint8 ``[P, 3, *PHOTO]``, those that serve as background first.
        scenes: how many of them do; the others are textures.
    """

    sprites: Tensor
    stills: int
    cells: int
    photos: Tensor
    scenes: int

    @property
    def turns(self) -> int:
        """Number of turning objects."""
        return (self.sprites.shape[0] - self.stills) // max(self.cells, 1)

    def to(self, device: torch.device | str) -> Assets:
        """Move to where clips are generated."""
        return Assets(self.sprites.to(device), self.stills, self.cells, self.photos.to(device), self.scenes)


def load_assets(source: Path, cache: Path, held_out: bool = False) -> Assets:
    """Read the training assets of a folder or a packed file, or the held-out ones; fills ``cache`` first if needed.

    Raises:
        SourceError: there are no cut-outs or no photos, or a picture cannot be read.
        SinkError: the cache cannot be written.
    """
    files = _files(source)
    key = _fingerprint(source, files)
    if not _is_cached(cache, key):
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(cache.with_name(f"{cache.name}.lock")):  # of two runs one fills it, and the other waits
                if not _is_cached(cache, key):
                    _fill(files, key, cache)
        except OSError as error:
            raise SinkError(f"{cache} cannot be written ({error.strerror}); choose a folder you can write") from error
    stored = torch.load(cache, weights_only=True, mmap=True)
    side = {
        part: torch.tensor([_is_held_out(file) == held_out for file in files[part]], dtype=torch.bool) for part in PARTS
    }
    cutouts, photos, turns, textures = (stored[part][side[part]] for part in PARTS)
    if not len(cutouts) or not len(photos):
        raise SourceError(f"assets {source} are too few to hold some out; add cut-outs and photos")
    return Assets(
        torch.cat([cutouts, turns.flatten(0, 1)]),
        len(cutouts),
        turns.shape[1],
        torch.cat([photos, textures]),
        len(photos),
    )


def pack_assets(source: Path, packed: Path) -> None:
    """Write the pictures of ``source`` as they are kept into one zip, to travel to where a model is trained.

    Raises:
        SourceError: as ``load_assets``.
        SinkError: the zip cannot be written.
    """
    found = _files(source)
    for files in found.values():
        for one, other in itertools.pairwise(sorted(files, key=_stem)):
            if _stem(one) == _stem(other):
                raise SourceError(f"{one} and {other} would be packed under one name; rename or remove one")
    try:
        with written_whole(packed) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for part, files in found.items():
                for file in files:
                    content = io.BytesIO()
                    _REDUCE[part](file).save(content, "WEBP", quality=QUALITY, method=4)
                    archive.writestr(f"{part}/{_stem(file)}.webp", content.getvalue())
    except OSError as error:
        raise SinkError(f"{packed} cannot be written ({error.strerror}); choose a folder you can write") from error


def fit_sprite(picture: Image.Image, cell: int = CELL, margin: int = MARGIN) -> Pixels:
    """An RGBA picture fitted into the middle of a transparent square, premultiplied uint8 ``[4, cell, cell]``."""
    small = _shrink(picture, cell - 2 * margin)
    square = Image.new("RGBa", (cell, cell), (0, 0, 0, 0))
    square.paste(small, ((cell - small.width) // 2, (cell - small.height) // 2))
    return np.asarray(square).transpose(2, 0, 1)


def _shrink(picture: Image.Image, side: int) -> Image.Image:
    """``picture`` premultiplied, its longer side ``side``: the colour of transparent pixels stays out of the edge."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    whole = picture.convert("RGBA").convert("RGBa")
    if size == whole.size:
        return whole
    return whole.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)


def _cells(file: File) -> list[Image.Image]:
    """The cells of a strip, each of side CELL, premultiplied."""
    picture = _open(file)
    side = picture.height
    if not side <= picture.width <= MOST_CELLS * side:
        raise SourceError(
            f"{file} is {picture.width}x{side} pixels; expected a row of 1 to {MOST_CELLS} square cells, side by side"
        )
    boxes = [(i * side, 0, (i + 1) * side, side) for i in range(picture.width // side)]
    return [_shrink(picture.crop(box), CELL) for box in boxes]


def _strip(file: File) -> Image.Image:
    cells = _cells(file)
    strip = Image.new("RGBa", (CELL * len(cells), CELL))
    for i, cell in enumerate(cells):
        strip.paste(cell, (i * CELL, 0))
    return strip.convert("RGBA")


def _photo(file: File) -> Image.Image:
    height, width = PHOTO
    return _open(file).convert("RGB").resize((width, height), Image.Resampling.BOX)


# What is packed of a picture of each part.
_REDUCE: dict[str, Callable[[File], Image.Image]] = {
    "cutouts": lambda file: _shrink(_open(file), CELL - 2 * MARGIN).convert("RGBA"),
    "photos": _photo,
    "turns": _strip,
    "textures": _photo,
}


def _fill(files: dict[str, list[File]], key: str, cache: Path) -> None:
    strips = [np.stack([fit_sprite(cell, margin=0) for cell in _cells(file)]) for file in files["turns"]]
    cells = min((len(strip) for strip in strips), default=1)
    stored = {
        "key": key,
        "cutouts": _stack((fit_sprite(_open(file)) for file in files["cutouts"]), (4, CELL, CELL)),
        "turns": _stack((strip[:cells] for strip in strips), (cells, 4, CELL, CELL)),
        **{
            part: _stack((np.asarray(_photo(file)).transpose(2, 0, 1) for file in files[part]), (3, *PHOTO))
            for part in ("photos", "textures")
        },
    }
    with written_whole(cache) as partial:
        torch.save(stored, partial)


def _stack(pictures: Iterable[Pixels], shape: tuple[int, ...]) -> Tensor:
    """``[count, *shape]``, also where there are none."""
    return torch.from_numpy(np.stack([np.zeros(shape, np.uint8), *pictures])[1:])


def _is_cached(cache: Path, key: str) -> bool:
    """Whether ``cache`` holds the pictures of ``key``; a cache of anything else, or a damaged one, is filled again."""
    try:
        return cache.is_file() and torch.load(cache, weights_only=True, mmap=True)["key"] == key
    except Exception:  # noqa: BLE001, torch raises whatever it likes of a damaged file
        return False


def _open(file: File) -> Image.Image:
    try:
        with file.open("rb") as stream:
            picture = Image.open(io.BytesIO(_bounded(stream.read(LARGEST + 1), file)))
        picture.load()
    except UnidentifiedImageError as error:
        raise SourceError(f"picture {file} cannot be read (no picture, or damaged); replace or remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, zipfile.BadZipFile) as error:
        raise SourceError(f"picture {file} cannot be read ({error}); replace or remove it") from error
    return picture


def _bounded(content: bytes, file: File) -> bytes:
    if len(content) > LARGEST:
        raise SourceError(f"picture {file} is larger than {LARGEST >> 20} MB; reduce or remove it")
    return content


def _files(source: Path) -> dict[str, list[File]]:
    """The pictures of each part, in order of name."""
    if source.is_dir():
        root: File = source
    elif zipfile.is_zipfile(source):
        root = zipfile.Path(source)
    else:
        raise SourceError(f"assets {source} are neither a folder nor a packed file; give one with cutouts/ and photos/")
    files = {part: _pictures(root / part) for part in PARTS}
    files["photos"] = [file for file in files["photos"] if not file.name.startswith(UNUSED)]
    for part in ("cutouts", "photos"):
        if not files[part]:
            raise SourceError(f"assets {source / part} hold no pictures; expected {', '.join(sorted(SUFFIXES))} files")
    return files


def _pictures(folder: File) -> list[File]:
    if not folder.is_dir():
        return []
    found: list[File] = [file for file in folder.iterdir() if Path(file.name).suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda file: file.name)


def _stem(file: File) -> str:
    return Path(file.name).stem


def _fingerprint(source: Path, files: dict[str, list[File]]) -> str:
    lines = [f"version {VERSION} cell {CELL} photo {PHOTO}"]
    if source.is_file():
        lines.append(hashlib.sha256(source.read_bytes()).hexdigest())
    else:
        lines += (f"{part}/{file.name} {Path(str(file)).stat().st_size}" for part in PARTS for file in files[part])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_held_out(file: File) -> bool:
    """Decided by the object's name alone, so that all its files agree and new files change nothing."""
    name = _SOURCE.sub("", _VIEW.sub("", _stem(file)))
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < HELD_OUT * 2**32
