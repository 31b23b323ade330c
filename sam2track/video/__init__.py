"""Video in and out, on PyAV: files, image folders, cameras and network streams; a writer with exact times."""

import cv2  # noqa: F401 -- before av: with av's libraries loaded first, OpenCV's windows hang on Linux

from sam2track.video.camera import Camera
from sam2track.video.live import Reconnect
from sam2track.video.protocol import Source
from sam2track.video.recording import Recording
from sam2track.video.seekable import open_recording
from sam2track.video.sink import VideoWriter
from sam2track.video.source import open_source

__all__ = ["Camera", "Reconnect", "Recording", "Source", "VideoWriter", "open_recording", "open_source"]
