from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import av.device
import pytest

from sam2track.errors import SourceError
from sam2track.video import camera as module
from sam2track.video.camera import Camera, Device, find_device, is_camera

TEST_PICTURE = "lavfi:testsrc=size=96x64:rate=25"


@pytest.fixture
def everything_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "formats_available", {"video4linux2,v4l2", "dshow", "avfoundation", "lavfi"})


@pytest.mark.parametrize("text", ["0", "12", "/dev/video0", "v4l2:/dev/video2", "dshow:Cam: 1", "avfoundation:0"])
def test_names_of_cameras(text: str) -> None:
    assert is_camera(text)


@pytest.mark.parametrize("text", ["", "a.mp4", "0.mp4", "./0", "/dev/null", "dshow:", "rtsp://h/0", "-1", "video0"])
def test_names_of_other_things(text: str) -> None:
    assert not is_camera(text)


@pytest.mark.usefixtures("everything_supported")
@pytest.mark.parametrize(
    ("camera", "platform", "device"),
    [
        (1, "darwin", Device("avfoundation", "1:none")),
        ("avfoundation:FaceTime HD", "darwin", Device("avfoundation", "FaceTime HD:none")),
        ("dshow:Integrated Camera", "win32", Device("dshow", "video=Integrated Camera")),
        ("lavfi:testsrc", "linux", Device("lavfi", "testsrc")),
    ],
)
def test_what_ffmpeg_calls_a_camera(camera: int | str, platform: str, device: Device) -> None:
    assert find_device(camera, platform) == device


@pytest.mark.usefixtures("everything_supported")
@pytest.mark.parametrize("camera", [3, "3", "/dev/video3", "v4l2:3", "v4l2:/dev/video3"])
def test_v4l2_devices_are_files(camera: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/video3")
    assert find_device(camera, "linux") == Device("v4l2", "/dev/video3")


@pytest.mark.usefixtures("everything_supported")
def test_dshow_looks_a_number_up_in_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [
        av.device.DeviceInfo("@mic", "Microphone", False, ["audio"]),
        av.device.DeviceInfo("@cam", "Webcam", True, ["video"]),
    ]
    monkeypatch.setattr(av.device, "enumerate_input_devices", lambda kind: devices)
    assert find_device(0, "win32") == Device("dshow", "video=@cam")
    with pytest.raises(SourceError, match="camera 1 is not there; cameras on this machine: Webcam"):
        find_device(1, "win32")


def test_a_camera_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [Path("/dev/video1"), Path("/dev/video0")])
    with pytest.raises(
        SourceError, match=r"/dev/video7 is not there; cameras on this machine: /dev/video0, /dev/video1"
    ):
        find_device(7, "linux")


def test_what_no_camera_can_be() -> None:
    for name in ("webcam", -1, True):
        with pytest.raises(SourceError, match="is not known"):
            find_device(name)
    with pytest.raises(SourceError, match="cannot be opened by number on sunos5"):
        find_device(0, "sunos5")


def test_a_kind_this_ffmpeg_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "formats_available", {"v4l2"})
    with pytest.raises(SourceError, match="needs dshow, which this FFmpeg was built without"):
        find_device("dshow:x", "linux")


def test_live_frames_of_a_drawn_camera() -> None:
    before = threading.active_count()
    with Camera(TEST_PICTURE) as camera:
        assert (camera.width, camera.height, camera.rate) == (96, 64, 25)
        assert camera.live
        assert camera.frame_count is None
        frames = [next(camera) for _ in range(5)]
    assert [frame.index for frame in frames] == list(range(5))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(5)]
    assert frames[0].image.std() > 30, "FFmpeg's test picture is colourful"
    with pytest.raises(SourceError, match="is closed"):
        next(camera)
    camera.close()
    assert threading.active_count() == before


def test_frames_come_in_real_time() -> None:
    with Camera("lavfi:testsrc=size=96x64:rate=25,realtime") as camera:
        started = time.monotonic()
        for _ in range(11):
            next(camera)
        assert 0.2 < time.monotonic() - started < 5


def test_the_end_of_a_camera_is_the_end() -> None:
    with Camera("lavfi:testsrc=size=96x64:rate=25:duration=0.2") as camera:
        assert len(list(camera)) == 5


def test_size_and_rate_are_asked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def refuse(target: object, name: str, **settings: object) -> None:
        asked.update(settings, target=target)
        raise SourceError(f"{name} is busy")

    monkeypatch.setattr(module, "Decoder", refuse)
    monkeypatch.setattr(module, "find_device", lambda camera: Device("v4l2", "/dev/video0"))
    with pytest.raises(SourceError, match="camera 0 is busy"):
        Camera(0, width=1280, height=720, rate=29.97, options={"input_format": "mjpeg"})
    assert asked["target"] == "/dev/video0"
    assert asked["format"] == "v4l2"
    assert asked["options"] == {"video_size": "1280x720", "framerate": "2997/100", "input_format": "mjpeg"}
    with pytest.raises(SourceError, match="give both or neither"):
        Camera(0, width=1280)


def test_a_device_that_ffmpeg_refuses(tmp_path: Path) -> None:
    (tmp_path / "video9").write_text("no device")
    with pytest.raises(SourceError, match="cannot be read"):
        Camera(f"v4l2:{tmp_path / 'video9'}")
