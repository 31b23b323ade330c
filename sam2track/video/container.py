"""Opening a container of any kind, and what FFmpeg has to say about it as one-line errors."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import IO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from sam2track.errors import SourceError
from sam2track.video.protocol import MAX_PIXELS

_PICTURE_A_PACKET = {"ffv1", "h264", "hevc", "vvc", "vp9", "av1", "mpeg1video", "mpeg2video"}


class UndecodableError(SourceError):
    """The data is damaged or no video at all, as opposed to out of reach or refused."""


def open_container(
    target: str | IO[bytes],
    name: str,
    *,
    format: str | None = None,  # noqa: A002  as av.open calls it
    options: Mapping[str, str],
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """``av.open`` for reading; its errors leave as a ``SourceError``. Arguments are those of ``Decoder``."""
    started = time.monotonic()
    try:
        return av.open(target, "r", format=format, options=dict(options), timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        if timeout and time.monotonic() - started >= timeout[0]:  # some protocols report it as invalid data
            raise _no_answer(name, timeout[0]) from error
        raise source_error(name, error) from error


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The stream to decode: the best one that moves."""
    streams = container.streams
    moving = [s for s in streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        held = ", ".join(sorted({stream.type for stream in streams})) or "nothing"
        raise SourceError(f"{name} has no video stream (it holds: {held}); give a file with video")
    best = streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise SourceError(f"{name} is coded in a format this FFmpeg cannot decode; convert it, e.g. to H.264")
    return stream


def picture_a_packet(stream: VideoStream) -> bool:
    """Whether every packet is a picture; of VP8 or MPEG-4 part 2, some show nothing."""
    codec = stream.codec_context.codec
    return codec.intra_only or codec.canonical_name in _PICTURE_A_PACKET


def probe_limit(max_pixels: int) -> dict[str, str]:
    """Keeps FFmpeg from decoding something huge while it finds out what it is.

    Wide enough that it still learns the size of what is only too large for ``max_pixels``, so we can say so.
    """
    return {"max_pixels": str(2 * max(max_pixels, MAX_PIXELS))}


def without_password(url: str) -> str:
    """``url`` as it may be shown: a password in it is starred out, before the host or as a parameter."""
    url = re.sub(r"(//[^/:]*):[^/]*@", r"\1:***@", url)  # to the last @, as FFmpeg reads it
    return re.sub(r"(?i)([?&](?:pass|passphrase|password|pwd|token)=)[^&#]*", r"\1***", url)


_REFUSED = "was refused by its server ({reason}); check the address and the credentials"
_FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "refused the connection; check the address and port, and that the server runs"),
    (PermissionError, "may not be read (permission denied); change its permissions"),
    (FileNotFoundError, "does not exist; check the path"),
    (av.error.HTTPClientError, _REFUSED),
    (av.error.HTTPError, _REFUSED),
    (OSError, "cannot be read ({reason}); check that it is there, whole, and not in use elsewhere"),
)


def _no_answer(name: str, waited: float | None) -> SourceError:
    after = f" within {waited:g} s" if waited is not None else ""
    return SourceError(f"{name} did not answer{after}; check that it is running, or allow it a longer timeout")


def source_error(name: str, error: BaseException, waited: float | None = None) -> SourceError:
    """The ``SourceError`` for what FFmpeg raised, in one line with the remedy."""
    if isinstance(error, av.error.InvalidDataError):
        return UndecodableError(f"{name} is not a video FFmpeg can read; check that it is whole and really a video")
    if isinstance(error, av.error.ExitError | TimeoutError):
        return _no_answer(name, waited)
    if isinstance(error, EOFError):
        return UndecodableError(f"{name} ends before its video begins; check that it is whole")
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    for kind, text in _FAULTS:
        if isinstance(error, kind):
            return SourceError(f"{name} {text.format(reason=reason)}")
    return UndecodableError(f"{name} cannot be read as video ({reason}); check that it is whole and really a video")
