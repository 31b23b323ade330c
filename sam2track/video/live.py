"""Frames that arrive on their own time: the part that cameras and network streams share.

A thread of its own connects, reads and decodes, and hands frames over through a short queue. So
whoever waits for a frame can always be released, even while FFmpeg sits in a read that nothing but its
timeout can end. The thread is gone at the latest one read timeout after ``close()``.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sam2track.data import Frame
from sam2track.errors import SourceError
from sam2track.video.decode import Decoder
from sam2track.video.protocol import Source
from sam2track.video.timeline import Timeline

_QUEUE = 4  # decoded frames that wait; more would only add delay
_LINGER = 0.5  # seconds close() waits for the reading thread before it leaves it to its timeout
_LONGEST_WAIT = 30.0  # seconds between two attempts to reconnect, however many have failed


@dataclass(frozen=True)
class Reconnect:
    """When a live source is lost: ``attempts`` in a row, the first after ``delay`` seconds, then twice as long each.

    The count starts again with each frame received. 0 attempts: the source ends where its sender ends it.
    """

    attempts: int = 5
    delay: float = 0.5

    def wait(self, attempt: int) -> float:
        """Seconds before ``attempt``, counted from 1."""
        return float(min(self.delay * 2 ** (attempt - 1), _LONGEST_WAIT))


class LiveSource(Source):
    """Frames of a source that may be lost and come back.

    After a reconnection ``index`` continues and ``time`` goes on by as long as the source was away. Frames
    that come back in another size are scaled to the first size.

    Attributes:
        reconnects: how often the source was lost and came back.
    """

    reconnects: int = 0

    def __init__(
        self,
        name: str,
        connect: Callable[[tuple[int, int] | None], Decoder],
        reconnect: Reconnect,
        *,
        live: bool | None = True,
    ) -> None:
        """Connect and wait for the first frame.

        Args:
            name: what errors call the source.
            connect: opens it, given the size (width, height) its frames must have, once that is known.
            reconnect: what to do when it is lost. A source that cannot be reached at first is not retried.
            live: None to believe the container, which may turn out to be a finished recording.

        Raises:
            SourceError: it cannot be opened, or sends no frame.
        """
        self.name = name
        self._says_live = live
        self._connect = connect
        self._reconnect = reconnect
        self._changed = threading.Condition()  # guards what follows
        self._frames: deque[Frame] = deque()
        self._closed = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._timeline: Timeline | None = None
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)
        # FFmpeg must not be reading any more when the interpreter is taken down around it.
        atexit.register(self.close)
        self._thread.start()
        try:
            self._wait_for_frame()
        except BaseException:
            self.close()
            raise
        if not self._frames:
            self.close()
            raise SourceError(f"{name} ended before its first frame; check that it sends video")

    def __next__(self) -> Frame:
        if self._closed.is_set():
            raise SourceError(f"{self.name} is closed; open it again to read it")
        self._wait_for_frame()
        with self._changed:
            if not self._frames:
                raise StopIteration
            frame = self._frames.popleft()
            self._changed.notify_all()
        return frame

    def close(self) -> None:
        """Release whoever waits, and stop the reading thread; safe to repeat, and from any thread."""
        self._closed.set()
        atexit.unregister(self.close)
        with self._changed:
            self._frames.clear()
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(_LINGER)

    def _wait_for_frame(self) -> None:
        """Return when a frame is there, the source has ended, or it was closed."""
        with self._changed:
            while not (self._frames or self._ended or self._closed.is_set()):
                self._changed.wait(0.5)  # bounded, so that Ctrl-C is heard on every platform
            if self._error is not None and not self._frames and not self._closed.is_set():
                raise self._error

    # Below: the reading thread.

    def _run(self) -> None:
        try:
            self._read_until_lost_for_good()
        except BaseException as error:  # noqa: BLE001  handed to whoever waits for a frame
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read_until_lost_for_good(self) -> None:
        """Read, reconnect, read, ... until closed, ended, or out of attempts."""
        failed = 0
        while not self._closed.is_set():
            before = self._timeline.count if self._timeline else 0
            lost: SourceError | None = None
            try:
                self._read_connection()
            except SourceError as error:
                lost = error
            if self._timeline is None or not self.live:
                if lost is not None:
                    raise lost
                return
            failed = 1 if self._timeline.count > before else failed + 1
            if failed > self._reconnect.attempts:
                if lost is None and self._reconnect.attempts == 0:
                    return
                raise self._gave_up(lost) from lost
            self._closed.wait(self._reconnect.wait(failed))

    def _gave_up(self, lost: SourceError | None) -> SourceError:
        attempts = self._reconnect.attempts
        if attempts == 0 and lost is not None:
            return lost
        reason = "its sender ended it" if lost is None else str(lost)
        return SourceError(f"{self.name} was lost and did not come back in {attempts} attempts: {reason}")

    def _read_connection(self) -> None:
        """Connect once and pass its frames on until it ends or fails."""
        size = None if self._timeline is None else (self.width, self.height)
        with self._connect(size) as decoder:
            if self._timeline is None:
                self._timeline = self._introduce(decoder)
            else:
                self.reconnects += 1
                self._timeline.restart(time.monotonic() - self._heard)
            damaged = self.damaged
            for picture in decoder:
                self.damaged = damaged + decoder.damaged
                self._heard = time.monotonic()
                self._put(self._timeline.frame(picture))
                if self._closed.is_set():
                    return

    def _introduce(self, decoder: Decoder) -> Timeline:
        """Take the source's attributes from its first connection, before its first frame is passed on."""
        self.width, self.height = decoder.width, decoder.height
        self.rate, self.time_base = decoder.rate, decoder.time_base
        self.pixel_aspect = decoder.pixel_aspect
        self.live = decoder.endless if self._says_live is None else self._says_live
        self.frame_count = None if self.live else decoder.frame_count
        return Timeline(self.rate, self.time_base)

    def _put(self, frame: Frame) -> None:
        with self._changed:
            while len(self._frames) >= _QUEUE and not self._closed.is_set():
                self._changed.wait()
            if not self._closed.is_set():
                self._frames.append(frame)
                self._changed.notify_all()
