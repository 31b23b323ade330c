"""The streaming engine: the stages of the path of a frame, overlapped.

    decode thread -> encode thread -> track thread -> the caller's loop

While frame t is tracked, frame t+1 is encoded, frame t+2 is decoded, and the caller draws or writes
frame t-1. What is always true: frames come out in order, each with its own result; at most
``2 * queue + 4`` frames exist at once (``newest``: 4); an exception of any stage is raised in the
caller's loop, after the results of the frames before it; when the loop is left, in whatever way,
every thread ends.
"""

from __future__ import annotations

import atexit
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self, cast

from sam2track.channel import Channel, ClosedError
from sam2track.data import Frame, FrameResult, Prompt
from sam2track.errors import ConfigError
from sam2track.schedule import Schedule
from sam2track.timing import StageTiming, Timings
from sam2track.video import open_source

if TYPE_CHECKING:
    from sam2track.segmenter import Encoded
    from sam2track.tracker import Tracker

Policy = Literal["lossless", "newest"]

_DECODE = "sam2track decode"  # name of the reading thread
# Seconds that close() waits for a thread. A step always ends, and must before the tracker is used again;
# a read may hang on a camera or network until the caller closes its source.
_READ_ENDS, _STEP_ENDS = 1.0, 30.0


class Prompter(Protocol):
    """Whoever prompts new objects by itself, from what is seen on a frame; ``Discoverer`` is one."""

    def due(self, index: int) -> bool:
        """Whether it wants to see frame ``index``; called from two threads, and more than once a frame."""

    def find(self, encoded: Encoded, result: FrameResult, room: int) -> Sequence[Prompt]:
        """Prompts for at most ``room`` new objects on a frame that was due, given the objects tracked on it."""


class _Item(NamedTuple):
    """One frame on its way; ``payload`` is what the last stage made of it."""

    frame: Frame
    decoded_at: float
    payload: Frame | Encoded | FrameResult


def track(
    source: Iterable[Frame] | str | Path | int,
    tracker: Tracker,
    prompts: Mapping[int, Mapping[int, Prompt]] | None = None,
    *,
    removals: Mapping[int, Collection[int]] | None = None,
    prompter: Prompter | None = None,
    policy: Policy | None = None,
    overlap: bool | None = None,
    queue: int = 2,
) -> Run:
    """Track the prompted objects through ``source``; iterate the result for ``(frame, result)`` pairs.

    Args:
        source: an open source or any iterable of frames, which stays the caller's to close; or a
            path, URL or camera index, opened now and closed with the run.
        tracker: tracks in its own thread during the run; do not call it meanwhile, use ``Run.send``.
        prompts: frame index -> object id -> prompt. A prompt for a frame that is skipped or damaged
            is given on the next frame that is tracked.
        removals: frame index -> ids of the objects to forget before that frame, or the next one that is tracked.
        prompter: finds new objects as the video brings them, such as a ``Discoverer``; they get ids above all others.
        policy: ``lossless`` tracks every frame, the source waits for the tracker; ``newest`` skips
            to the newest frame when the tracker is slower than the source. Default: by ``source.live``.
        overlap: encode frame t+1 while frame t is tracked, in two threads. Default: yes, except with
            ``newest`` when both run on the CPU: they slow each other down, and results would be older.
        queue: decoded frames that may wait, and as many tracked ones (``lossless`` only).

    Raises:
        ConfigError: an unknown policy or a queue below 1.
        PromptError: prompts or removals of another shape; later, from the loop, a removal of what is not
            tracked, and after the last frame a prompt or removal for a frame past the end.
        SourceError: ``source`` cannot be opened.
    """
    if policy not in ("lossless", "newest", None):
        raise ConfigError(f"policy {policy!r} is unknown; use 'lossless' or 'newest'")
    if queue < 1:
        raise ConfigError(f"queue is {queue}; use 1 or more")
    schedule = Schedule({} if prompts is None else prompts, tracker.object_ids, removals)
    share_cpu = _share_cpu(tracker.placement)
    owned = ExitStack()
    frames = owned.enter_context(open_source(source)) if isinstance(source, str | Path | int) else source
    if policy is None:
        policy = "newest" if getattr(frames, "live", False) else "lossless"
    if overlap is None:
        # Measured with nano at 384 px on 2 cores: files 98 ms a frame overlapped, 129 ms in turn; a camera
        # 93 ms a frame and 211 ms late overlapped, 130 ms a frame and 143 ms late in turn.
        overlap = policy == "lossless" or not share_cpu
    return Run(frames, tracker, schedule, owned, prompter=prompter, policy=policy, overlap=overlap, queue=queue)


class Run:
    """One pass over a source; made by ``track``.

    Iterate it once; use it as a context manager, or call ``close``, to end it early from elsewhere.
    Leaving the loop ends it too. ``send`` and ``remove`` may be called from any thread meanwhile.

    Attributes:
        source: the frames being read.
        policy: ``lossless`` or ``newest``.
        timings: seconds by stage. ``decode`` of a live source includes the wait for its next frame;
            the caller adds its own: ``with run.timings.measure("render"): ...``.
        delivered: frames handed to the caller so far.
        skipped: frames replaced by a newer one before they were tracked.
    """

    def __init__(
        self,
        source: Iterable[Frame],
        tracker: Tracker,
        schedule: Schedule,
        owned: ExitStack,
        *,
        prompter: Prompter | None,
        policy: Policy,
        overlap: bool,
        queue: int,
    ) -> None:
        self.source = source
        self.policy: Policy = policy
        self.timings = Timings()
        self.delivered = 0
        self.skipped = 0
        self._tracker = tracker
        self._tracker_timings = tracker.timings
        self._schedule = schedule
        self._prompter = prompter
        self._overlap = overlap
        self._owned = owned  # the source, if the run opened it
        self._frame_count = 0
        self._latency = Timings()
        self._first_delivery = self._last_delivery = 0.0
        self._threads: list[threading.Thread] = []
        self._iterated = False
        # A credit lets one frame past the decoder: it is taken before the encoder and comes back when
        # the caller asks for its next frame. Two of them keep a live stream both busy and fresh:
        # with one more, a frame would wait behind two others in front of the slowest stage.
        credit = 2 if policy == "newest" else queue + 3  # one each for encode, track and caller
        self._decoded: Channel[_Item] = Channel(1 if policy == "newest" else queue)
        self._credits: Channel[None] = Channel(credit)
        self._encoded: Channel[_Item] = Channel(credit)
        self._tracked: Channel[_Item] = Channel(credit)
        for _ in range(credit):
            self._credits.put(None)

    def send(self, prompts: Mapping[int, Prompt]) -> None:
        """Give object id -> prompt on the next frame that is tracked; what is sent meanwhile is given in order.

        That frame is a few ahead of the one the caller sees; after the last one, nothing happens.
        """
        self._schedule.send(prompts)

    def remove(self, object_id: int) -> None:
        """Forget an object before the next frame that is tracked. Raises ``PromptError`` if it is unknown.

        Frames tracked already still show it, and prompts scheduled for later frames start it anew.
        """
        self._schedule.remove(object_id)

    @property
    def latency(self) -> StageTiming:
        """Seconds from a frame decoded to its result handed to the caller."""
        return self._latency.summary().get("latency", StageTiming(0, 0.0, 0.0, 0.0))

    @property
    def throughput(self) -> float:
        """Frames per second handed to the caller, from the first to the last; 0 before the second."""
        elapsed = self._last_delivery - self._first_delivery
        return (self.delivered - 1) / elapsed if elapsed > 0 else 0.0

    def close(self) -> None:
        """Stop every stage and wait for its thread; safe to repeat, from any thread."""
        atexit.unregister(self.close)
        for channel in (self._credits, self._decoded, self._encoded, self._tracked):
            channel.close()
        self._owned.close()  # also ends a read that waits
        self._iterated = True
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(_READ_ENDS if thread.name == _DECODE else _STEP_ENDS)
        if self._tracker.timings is self.timings:
            self._tracker.timings = self._tracker_timings
        busy = [thread.name for thread in others if thread.is_alive()]
        if busy:
            message = f"{', '.join(busy)}: still busy though the run is closed; close the source to end its read"
            warnings.warn(message, ResourceWarning, stacklevel=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[Frame, FrameResult]]:
        if self._iterated:
            raise RuntimeError("this run was iterated or closed already; call track again for another pass")
        self._iterated = True
        return self._deliver()

    def _deliver(self) -> Iterator[tuple[Frame, FrameResult]]:
        """The caller's end. Closing this generator, as leaving a for loop does, closes the run."""
        try:
            self._start()
            for frame, decoded_at, result in self._tracked:
                self._last_delivery = perf_counter()
                self._latency.add("latency", self._last_delivery - decoded_at)
                if not self.delivered:
                    self._first_delivery = self._last_delivery
                self.delivered += 1
                yield frame, cast(FrameResult, result)
                self._credits.put(None)
            self._schedule.check_all_given(self._frame_count)
        except ClosedError:
            pass  # the run was closed while the caller was waiting: its loop just ends
        finally:
            self.close()

    def _start(self) -> None:
        atexit.register(self.close)  # daemon threads must not be inside torch when Python shuts down
        self._tracker.timings = self.timings
        admitted = zip(self._credits, self._decoded, strict=False)  # first a credit, then the newest frame
        frames = (item for _, item in admitted)
        stages: dict[str, Callable[[], None]] = {_DECODE: self._decode}
        if self._overlap:
            stages["sam2track encode"] = lambda: _run_stage(frames, self._encode, self._encoded)
            stages["sam2track track"] = lambda: _run_stage(self._encoded, self._track, self._tracked)
        else:
            stages["sam2track track"] = lambda: _run_stage(frames, self._track, self._tracked)
        for name, work in stages.items():
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _decode(self) -> None:
        offer = self._decoded.replace if self.policy == "newest" else self._decoded.put
        try:
            frames = iter(self.source)
            while True:
                try:
                    with self.timings.measure("decode"):
                        frame = next(frames)
                except StopIteration:
                    break
                self._frame_count = frame.index + 1
                self.skipped += bool(offer(_Item(frame, perf_counter(), frame)))
            self._decoded.finish()
        except ClosedError:
            pass
        except BaseException as error:  # noqa: BLE001 -- handed to the caller, who raises it
            self._decoded.finish(error)

    def _encode(self, item: _Item) -> _Item:
        if not (self._schedule.wants(item.frame.index) or self._due(item.frame.index)):
            return item  # nothing to track on this frame, so nothing to encode
        return item._replace(payload=self._tracker.encode(item.frame))

    def _due(self, index: int) -> bool:
        return self._prompter is not None and self._prompter.due(index)

    def _track(self, item: _Item) -> _Item:
        removed, rounds = self._schedule.take(item.frame.index)
        for object_id in removed:
            self._tracker.remove(object_id)
        frame = cast("Frame | Encoded", item.payload)
        prompter = self._prompter if self._due(item.frame.index) else None
        if prompter is not None and isinstance(frame, Frame):
            frame = self._tracker.encode(frame)
        result = self._tracker.step(frame, rounds[0] if rounds else {})
        for corrections in rounds[1:]:
            result = self._refined(result, corrections)
        if prompter is not None:
            with self.timings.measure("discover"):
                room = max(self._tracker.room - self._schedule.awaited(), 0)
                found = prompter.find(cast("Encoded", frame), result, room)
            result = self._refined(result, self._schedule.start(found))
        return item._replace(payload=result)

    def _refined(self, result: FrameResult, prompts: Mapping[int, Prompt]) -> FrameResult:
        """``result`` after ``prompts`` on its frame."""
        if not prompts:
            return result
        return replace(result, objects={**result.objects, **self._tracker.refine(prompts).objects})


def _run_stage(items: Iterable[_Item], work: Callable[[_Item], _Item], outbox: Channel[_Item]) -> None:
    """Work on ``items`` until they end or fail, which is passed on, or the run is closed."""
    try:
        for item in items:
            outbox.put(work(item))
        outbox.finish()
    except ClosedError:
        pass
    except BaseException as error:  # noqa: BLE001 -- handed to the caller, who raises it
        outbox.finish(error)


def _share_cpu(placement: Mapping[str, str]) -> bool:
    """Whether image encoder and memory attention both run on the CPU; placements read ``engine:device:precision``."""
    return all(placement[part].split(":")[1] == "cpu" for part in ("image_encoder", "memory_attention"))
