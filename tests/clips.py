"""Small real clips for tests: pictures drawn by numpy, encoded by PyAV.

Plain functions, so that any test module can build what it needs in ``tmp_path``. The drawn pictures
are smooth enough to survive a lossy codec: ``moving_square`` says exactly where its square is, and
``index_of`` reads the frame's number back from its brightness bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
NTSC = Fraction(30000, 1001)
_BITS = 6  # index_of can tell 64 frames apart


def solid(color: tuple[int, int, int], size: tuple[int, int] = (64, 96)) -> Image:
    """One colour (R, G, B) all over; ``size`` is (height, width)."""
    return np.broadcast_to(np.array(color, np.uint8), (*size, 3)).copy()


def square_box(index: int, size: tuple[int, int] = (64, 96), side: int = 20) -> tuple[int, int, int, int]:
    """Where ``moving_square`` draws: (x0, y0, x1, y1), right and bottom edges exclusive."""
    height, width = size
    x = 4 + (2 * index) % max(1, width - side - 8)
    y = min(16 + index // 2, height - side - 1)
    return x, y, x + side, y + side


def moving_square(count: int, size: tuple[int, int] = (64, 96), side: int = 20) -> list[Image]:
    """A red square that moves right by 2 px a frame over a grey slope; its truth is ``square_box``."""
    height, width = size
    slope = np.linspace(60, 180, width)[None, :, None] * np.ones((height, 1, 3))
    images = []
    for index in range(count):
        image = slope.astype(np.uint8)
        x0, y0, x1, y1 = square_box(index, size, side)
        image[y0:y1, x0:x1] = (220, 40, 30)
        images.append(image)
    return images


def numbered(count: int, size: tuple[int, int] = (64, 96), first: int = 0) -> list[Image]:
    """Pictures that carry their number as black and white bars, read back by ``index_of``."""
    height, width = size
    images = []
    for index in range(first, first + count):
        bits = [(index >> bit) & 1 for bit in range(_BITS)]
        column = np.arange(width) * _BITS // width
        row = np.where(np.array(bits)[column] == 1, 230, 25).astype(np.uint8)
        images.append(np.repeat(np.broadcast_to(row, (height, width))[..., None], 3, axis=2).copy())
    return images


def index_of(image: Image) -> int:
    """The number that ``numbered`` drew."""
    width = image.shape[1]
    row = image[image.shape[0] // 2].mean(axis=1)
    centers = [int((bit + 0.5) * width / _BITS) for bit in range(_BITS)]
    return sum(int(row[center] > 128) << bit for bit, center in enumerate(centers))


def write_clip(
    path: Path | str,
    images: Iterable[Image],
    rate: Fraction | int = 30,
    *,
    times: Sequence[Fraction] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container: str | None = None,
    colorspace: int | None = None,
    color_range: int | None = None,
) -> Path:
    """Encode RGB ``images`` and return ``path``.

    Args:
        path: where; its extension chooses the container unless ``container`` does.
        images: uint8 RGB ``[H, W, 3]``, or ``[H, W, 4]`` for a ``pix_fmt`` with alpha.
        rate: frames a second.
        times: exact time of each picture in seconds, for a variable frame rate.
        codec: FFmpeg encoder.
        pix_fmt: what the encoder is given.
        rotation: degrees counter-clockwise by which a player must turn the stored picture.
        options: of the encoder; by default a quick, good quality for libx264.
        container: FFmpeg container name.
        colorspace: FFmpeg matrix to convert with and to tag (1 = BT.709, 5 = BT.601).
        color_range: 1 limited, 2 full.
    """
    images = list(images)
    height, width = images[0].shape[:2]
    if options is None:
        options = {"preset": "ultrafast", "crf": "12"} if codec == "libx264" else {}
    rate = Fraction(rate)
    time_base = Fraction(1, 90000) if times is not None else 1 / rate
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if rotation:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(images):
            source = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            frame = source.reformat(format=pix_fmt, dst_colorspace=colorspace, dst_color_range=color_range)
            frame.time_base = time_base
            frame.pts = index if times is None else round(times[index] / time_base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return Path(path)


def write_images(folder: Path, images: Iterable[Image], pattern: str = "{:05d}.png", first: int = 0) -> Path:
    """Write numbered pictures into ``folder`` (made if missing) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    codecs = {".png": ("png", "rgb24"), ".jpg": ("mjpeg", "yuvj444p"), ".bmp": ("bmp", "bgr24"),
              ".tif": ("tiff", "rgb24"), ".webp": ("libwebp", "yuv420p")}  # fmt: skip
    for index, image in enumerate(images, start=first):
        path = folder / pattern.format(index)
        codec, pix_fmt = codecs[path.suffix]
        context = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt = image.shape[1], image.shape[0], pix_fmt
        context.time_base = Fraction(1, 25)
        if codec == "mjpeg":
            context.color_range = 2
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format=pix_fmt, dst_color_range=2 if codec == "mjpeg" else None)
        frame.pts = 0
        packets = [*context.encode(frame), *context.encode(None)]
        path.write_bytes(b"".join(bytes(packet) for packet in packets))
    return folder


def write_audio(path: Path, seconds: int = 1) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        samples = np.zeros((1, 1024), np.float32)
        for index in range(seconds * 48000 // 1024):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, index * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damage_packets(source: Path, target: Path, which: Iterable[int]) -> Path:
    """Copy an mp4 or mkv, with the picture data of the packets ``which`` (decoding order) overwritten."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for index in which:
            start, size = packets[index].pos, packets[index].size
            data[start : start + size] = b"\xff" * size
    target.write_bytes(data)
    return target
