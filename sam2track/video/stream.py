"""Network streams: rtsp, http(s), udp, tcp, rtmp, srt, rtp."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sam2track.errors import SourceError
from sam2track.video.container import without_password
from sam2track.video.decode import Decoder
from sam2track.video.live import LiveSource, Reconnect
from sam2track.video.protocol import MAX_PIXELS

SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "tcp", "rtmp", "rtmps", "srt", "rtp")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_OPTIONS = {
    # Over TCP no packet is lost, and no firewall is in the way: what a user expects of rtsp today.
    "rtsp": {"rtsp_transport": "tcp"},
    "rtsps": {"rtsp_transport": "tcp"},
    # A recording that can be sought is picked up where it broke off, by FFmpeg itself.
    "http": {"reconnect": "1", "reconnect_delay_max": "5"},
    "https": {"reconnect": "1", "reconnect_delay_max": "5"},
}


class StreamSource(LiveSource):
    """A network stream: live, and reconnected when it is lost.

    What http(s) serves with a length is a recording: ``live`` is then False, no frame is dropped, and its
    end is the end. Everything else counts as lost when its sender ends it.
    """

    def __init__(
        self,
        url: str,
        *,
        open_timeout: float = 10.0,
        read_timeout: float = 5.0,
        reconnect: Reconnect | None = None,
        max_pixels: int = MAX_PIXELS,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Connect to ``url`` and wait for its first frame.

        Args:
            url: rtsp, http(s), udp, tcp, rtmp, srt or rtp; a password in it is never shown.
            open_timeout: seconds to wait for the connection, and again for enough data to know the format.
            read_timeout: seconds without data after which the stream counts as lost.
            reconnect: when and how often to try again.
            max_pixels: of a frame; larger ones are refused.
            options: of FFmpeg's protocol and demuxer, e.g. ``{"rtsp_transport": "udp"}``.

        Raises:
            SourceError: nothing answers, the connection is refused, or what comes is not video.
        """
        scheme, name = url_scheme(url), without_password(url)
        if scheme not in SCHEMES:
            raise SourceError(f"{name} is not a stream address; expected one of {', '.join(SCHEMES)} followed by ://")
        if min(open_timeout, read_timeout) <= 0:
            raise SourceError(
                f"timeouts {open_timeout} and {read_timeout} s must be positive; leave them out for 10 and 5"
            )

        def connect(size: tuple[int, int] | None) -> Decoder:
            return Decoder(
                url,
                name,
                options={**_OPTIONS.get(scheme, {}), **(options or {})},
                timeout=(open_timeout, read_timeout),
                threads="SLICE",
                max_pixels=max_pixels,
                size=size,
            )

        live = None if scheme in ("http", "https") else True
        super().__init__(name, connect, reconnect or Reconnect(), live=live)


def url_scheme(source: str) -> str | None:
    """The scheme of a URL in lower case; None when ``source`` is not a URL."""
    match = _URL.match(source)
    return match.group(1).lower() if match else None
