"""One still picture as RGB uint8: from a file, a numpy array or a PIL image; and into a file.

FFmpeg says how large a file's picture is, and OpenCV decodes it: it gives what PIL gives, bit for bit, and turns all
eight EXIF orientations (PyAV only those that are not mirrored, and its JPEG colours differ by up to 20 levels).
"""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from sam2track.data import Image, Mask
from sam2track.errors import SinkError, SourceError
from sam2track.files import written_whole
from sam2track.video.container import UndecodableError
from sam2track.video.protocol import MAX_PIXELS

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_BYTES = 2**29  # of a file: an uncompressed 16-bit picture of MAX_PIXELS takes 384 MiB

ImageLike = str | Path | NDArray[Any] | Any  # the last: a PIL image, which is not imported for its type


class _Silence:
    """While any thread is inside, OpenCV logs nothing: what is wrong with a picture is told once, by us."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(0)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.utils.logging.setLogLevel(self._level)


_silence = _Silence()


def to_rgb(image: ImageLike) -> Image:
    """Any picture as RGB uint8 ``[H, W, 3]``; transparency is dropped, grey is repeated.

    Args:
        image: a path (turned upright as its EXIF says); an array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` RGB or
            ``[H, W, 4]`` RGBA of uint8, or of uint16, whose full range becomes 0 to 255; or a PIL image, as it
            lies in memory (``PIL.ImageOps.exif_transpose`` turns it upright).

    Raises:
        SourceError: a file that cannot be read as a picture, or an array that is none.
    """
    if isinstance(image, str | Path):
        return read_picture(image)
    if type(image).__module__.startswith("PIL."):
        picture: Any = image
        if picture.mode in ("I", "F"):  # PIL would cut off what is above 255, and who knows what the range is
            raise SourceError(f"image is a PIL image of mode {picture.mode}; convert it to 'L' or 'I;16' first")
        if picture.mode.startswith("I;16"):
            image = np.asarray(picture).astype(np.uint16)
        else:
            image = np.asarray(picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise SourceError(f"image is a {type(image).__name__}; expected a path, a numpy array or a PIL image")
    return _array_to_rgb(image, "image")


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in a file, upright: JPEG, PNG, WebP, TIFF, BMP and what else FFmpeg and OpenCV both read.

    Raises:
        SourceError: it is missing, or of more than ``max_pixels``.
        UndecodableError: it is no picture, damaged or cut short.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"picture {path} cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise SourceError(f"picture {path} is larger than {MAX_BYTES // 2**20} MiB; expected a photo")
    width, height = _stated_size(content, path, max_pixels)
    if width * height == 0:
        raise UndecodableError(f"picture {path} is damaged or has more than {max_pixels} pixels; give a whole one")
    if width * height > max_pixels:
        raise SourceError(
            f"picture {path} is {width}x{height}, more than the limit of {max_pixels} pixels; give a smaller one"
        )
    try:
        with _silence:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise UndecodableError(f"picture {path} cannot be decoded: {error.err}") from error
    if pixels is None:
        raise UndecodableError(f"picture {path} cannot be decoded; check that it is whole and really a picture")
    return _array_to_rgb(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), str(path))


def write_picture(path: str | Path, image: Image | Mask) -> None:
    """Write RGB uint8 ``[H, W, 3]``, or a mask as white on black, to a .png, .jpg, .webp, .tif or .bmp file.

    Raises:
        SinkError: a name of another kind, more rows or columns than that kind holds, or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise SinkError(f"{path} is no picture's name; end it in {', '.join(IMAGE_SUFFIXES)}")
    grey_or_rgb = image.astype(np.uint8) * (255 if image.dtype == np.bool_ else 1)
    pixels = grey_or_rgb if image.ndim == 2 else cv2.cvtColor(grey_or_rgb, cv2.COLOR_RGB2BGR)
    whole, content = cv2.imencode(path.suffix.lower(), pixels)
    if not whole:
        height, width = pixels.shape[:2]
        raise SinkError(f"{path} cannot hold a picture of {width}x{height}; write a .png or a smaller picture")
    try:
        with written_whole(path) as partial:
            partial.write_bytes(content.tobytes())
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error.strerror}); choose a folder you can write") from error


def _stated_size(content: bytes, path: str | Path, max_pixels: int) -> tuple[int, int]:
    """Width and height before rotation; (0, 0) where FFmpeg refused to look because it is too large."""
    limit = {"max_pixels": str(2 * max(max_pixels, MAX_PIXELS))}  # wide enough to learn the size of what is too large
    try:
        with av.open(BytesIO(content), options=limit) as container:
            context = container.streams.video[0].codec_context
            return context.width, context.height
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UndecodableError(f"{path} is no picture FFmpeg can read; check that it is a whole one") from error


def _array_to_rgb(array: NDArray[Any], name: str) -> Image:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise SourceError(f"{name} has shape {list(array.shape)}; expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise SourceError(f"{name} is {array.shape[1]}x{array.shape[0]}; at most {MAX_PIXELS} pixels are taken")
    colours = array[..., :3]
    if colours.dtype == np.uint16:
        colours = ((colours.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if colours.dtype != np.uint8:
        raise SourceError(
            f"{name} is {array.dtype}{list(array.shape)}; expected uint8, or uint16 of full range (scale it first)"
        )
    return np.ascontiguousarray(np.broadcast_to(colours, (*array.shape[:2], 3)))
