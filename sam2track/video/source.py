"""Opens whatever the user names: the one door to every kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sam2track.errors import SourceError
from sam2track.video.camera import Camera, is_camera
from sam2track.video.file import FileSource
from sam2track.video.images import FolderSource
from sam2track.video.live import Reconnect
from sam2track.video.protocol import MAX_PIXELS, Source
from sam2track.video.stream import StreamSource, url_scheme


def open_source(
    source: str | Path | int,
    *,
    rate: Fraction | float | None = None,
    max_pixels: int = MAX_PIXELS,
    open_timeout: float = 10.0,
    read_timeout: float = 5.0,
    reconnect: Reconnect | None = None,
    options: Mapping[str, str] | None = None,
) -> Source:
    """Open a video file, a folder of numbered images, a camera or a network stream.

    Args:
        source: a path; a camera as a number, ``"0"``, ``"/dev/video0"`` or ``"v4l2:..."`` / ``"dshow:..."`` /
            ``"avfoundation:..."``; or a URL (rtsp, http(s), udp, tcp, rtmp, srt). A file named ``0`` is ``"./0"``.
        rate: frames a second of a folder (24 by default), or to ask a camera for. A file or stream has its own.
        max_pixels: of a frame; larger ones are refused, against hostile files.
        open_timeout: seconds to wait for a camera or stream to open.
        read_timeout: seconds without data after which a camera or stream is lost.
        reconnect: when and how often to reconnect to a stream that was lost.
        options: of FFmpeg, for a camera or stream.

    Returns:
        An open source; use it in a ``with`` statement.

    Raises:
        SourceError: it cannot be opened; the message says why.
    """
    if isinstance(source, int) or (isinstance(source, str) and is_camera(source)):
        return Camera(source, rate=rate, timeout=open_timeout, max_pixels=max_pixels, options=options)
    scheme = url_scheme(source) if isinstance(source, str) else None
    if scheme == "file":
        source = Path(unquote(urlsplit(str(source)).path))
    elif scheme is not None:
        return StreamSource(
            str(source),
            open_timeout=open_timeout,
            read_timeout=read_timeout,
            reconnect=reconnect,
            max_pixels=max_pixels,
            options=options,
        )
    if not str(source).strip():
        raise SourceError("source is empty; give a video file, a folder of images, a camera or a URL")
    path = Path(source)
    if path.is_dir():
        return FolderSource(path, rate=rate, max_pixels=max_pixels)
    return FileSource(path, max_pixels=max_pixels)
