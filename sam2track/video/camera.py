"""Cameras: Video4Linux (Linux), DirectShow (Windows), AVFoundation (macOS)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.device

from sam2track.errors import SourceError
from sam2track.video.decode import Decoder
from sam2track.video.live import LiveSource, Reconnect
from sam2track.video.protocol import MAX_PIXELS

_NATIVE = {"linux": "v4l2", "win32": "dshow", "darwin": "avfoundation"}
_CAMERA = re.compile(r"\d+|/dev/video\d+|(v4l2|dshow|avfoundation|lavfi):.+", re.DOTALL)


class Device(NamedTuple):
    """A camera in FFmpeg's terms: the input format and the name it knows the camera by."""

    format: str
    name: str


class Camera(LiveSource):
    """A camera, live: frames that are not fetched in time are lost, not kept.

    ``Camera(0)`` is the first camera of the machine; so are ``"0"``, ``"/dev/video0"``, ``"v4l2:/dev/video0"``,
    ``"dshow:Integrated Camera"`` and ``"avfoundation:0"`` on the system each belongs to. ``"lavfi:testsrc,realtime"``
    draws FFmpeg's test picture in place of a camera. A camera that is unplugged is a ``SourceError``.
    """

    def __init__(
        self,
        camera: int | str = 0,
        *,
        width: int | None = None,
        height: int | None = None,
        rate: Fraction | float | None = None,
        timeout: float = 10.0,
        max_pixels: int = MAX_PIXELS,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Open ``camera`` and wait for its first frame.

        Args:
            camera: which one, see above.
            width: columns to ask the camera for, together with ``height``; by default the camera decides.
            height: rows to ask for.
            rate: frames a second to ask for.
            timeout: seconds to wait for the camera to open, and for each frame.
            max_pixels: of a frame; larger ones are refused.
            options: of FFmpeg's input device, e.g. ``{"input_format": "mjpeg"}``.

        Raises:
            SourceError: there is no such camera, it is in use, or it cannot do what was asked.
        """
        if (width is None) != (height is None):
            raise SourceError(f"camera {camera} was asked for width {width} and height {height}; give both or neither")
        device = find_device(camera)
        asked = {} if width is None else {"video_size": f"{width}x{height}"}
        if rate is not None:
            asked["framerate"] = str(Fraction(rate).limit_denominator(1_000_000))
        name = f"camera {camera}"

        def connect(size: tuple[int, int] | None) -> Decoder:
            return Decoder(
                device.name,
                name,
                format=device.format,
                options={**asked, **(options or {})} if device.format != "lavfi" else dict(options or {}),
                timeout=(timeout, timeout),
                threads="SLICE",
                max_pixels=max_pixels,
                size=size,
            )

        super().__init__(name, connect, Reconnect(attempts=0))


def is_camera(source: str) -> bool:
    """True when ``source`` names a camera and not a file or URL."""
    return _CAMERA.fullmatch(source) is not None


def find_device(camera: int | str, platform: str = sys.platform) -> Device:
    """What FFmpeg calls ``camera`` on ``platform``.

    Raises:
        SourceError: the name is no camera's, or this machine has no such camera or no support for it.
    """
    text = str(camera)
    if isinstance(camera, bool) or not is_camera(text):
        raise SourceError(
            f"camera {camera!r} is not known; give a number, /dev/videoN, or v4l2:, dshow: or avfoundation: and a name"
        )
    kind, colon, name = text.partition(":")
    if not colon:
        native = "v4l2" if text.startswith("/dev/") else _NATIVE.get(platform)
        if native is None:
            raise SourceError(f"camera {camera} cannot be opened by number on {platform}; give a URL or a file instead")
        kind, name = native, text
    supported = {alias for formats in av.formats_available for alias in formats.split(",")}
    if kind not in supported:
        raise SourceError(
            f"camera {camera} needs {kind}, which this FFmpeg was built without; use this system's own kind"
        )
    return Device(kind, _NAMED[kind](name))


def _v4l2_name(name: str) -> str:
    """The device file of camera ``name``, which must be there."""
    path = Path(f"/dev/video{name}" if name.isdigit() else name)
    if not path.exists():
        present = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"camera {path} is not there; cameras on this machine: {present}")
    return str(path)


def _dshow_name(name: str) -> str:
    """DirectShow knows cameras by name only: a number is looked up in its list."""
    if not name.isdigit():
        return f"video={name}"
    cameras = [d for d in av.device.enumerate_input_devices("dshow") if "video" in d.media_types]
    if int(name) >= len(cameras):
        present = ", ".join(d.description for d in cameras) or "none"
        raise SourceError(f"camera {name} is not there; cameras on this machine: {present}")
    return f"video={cameras[int(name)].name}"


def _avfoundation_name(name: str) -> str:
    """Video device ``name``, and no microphone."""
    return f"{name}:none"


_NAMED: dict[str, Callable[[str], str]] = {
    "v4l2": _v4l2_name,
    "dshow": _dshow_name,
    "avfoundation": _avfoundation_name,
    "lavfi": str,
}
