"""Sessions over fake components, where what is bright is the object, and over nano."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sam2track as st
from sam2track.backends import fake
from sam2track.config import Config
from sam2track.errors import ConfigError, PromptError, SinkError, SourceError
from sam2track.memory import gather
from sam2track.segmenter import Segmenter
from sam2track.sessions import Budget, Session, tracking
from tests.clips import damage_packets, moving_square, write_clip, write_images

CLICK = st.Prompt(points=[(20, 20)])
COUNT = 12


def model(**settings: Any) -> Segmenter:
    return Segmenter(fake.components(), Config(**settings))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    images = []
    for index in range(COUNT):
        image = np.zeros((64, 96, 3), np.uint8)
        image[16:48, 16 + 2 * index : 48 + 2 * index] = 255
        images.append(image)
    return write_clip(tmp_path / "a.mp4", images)


@pytest.fixture
def session(clip: Path) -> Iterator[Session]:
    with Session(clip, model()) as opened:
        yield opened


@pytest.fixture
def followed(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, ...]]]:
    """Collects (frame, object ids) of what is really tracked."""
    calls: list[tuple[int, tuple[int, ...]]] = []
    segmenter = session._tracker._segmenter
    plain = segmenter.follow

    def follow(encoded: Any, ids: Any, memory: Any) -> Any:
        calls.append((encoded.frame.index, tuple(ids)))
        return plain(encoded, ids, memory)

    monkeypatch.setattr(segmenter, "follow", follow)
    return calls


def test_both_ways_from_a_prompt_in_the_middle(session: Session) -> None:
    shown = session.prompt(5, 1, CLICK)
    assert (shown.index, shown.time, shown.size, list(shown.objects)) == (5, Fraction(5, 30), (64, 96), [1])
    forwards, backwards = session.propagate(), session.propagate(reverse=True)
    assert (len(forwards), len(backwards)) == (7, 6)
    assert [result.index for result in forwards] == [5, 6, 7, 8, 9, 10, 11]
    assert [result.index for result in backwards] == [5, 4, 3, 2, 1, 0]
    results = list(session.results())
    assert [result.index for result in results] == list(range(COUNT))
    for result in results:
        x = 16 + 2 * result.index
        assert result.objects[1].box == pytest.approx((x, 16, x + 32, 48), abs=3)
        assert result.objects[1].score == pytest.approx(0.9)


def test_only_what_changed_is_tracked_again(session: Session, followed: list[tuple[int, tuple[int, ...]]]) -> None:
    session.prompt(0, 1, CLICK)
    session.prompt(2, 2, CLICK)
    first = list(session.propagate())
    assert followed == [(0, (2,)), (1, (1, 2)), (2, (1,)), *((frame, (1, 2)) for frame in range(3, COUNT))]
    followed.clear()
    again = list(session.propagate())
    assert followed == []
    for a, b in zip(first, again, strict=True):
        assert (a.index, list(a.objects)) == (b.index, list(b.objects))
        assert all(np.array_equal(a.objects[i].mask, b.objects[i].mask) for i in a.objects)
        assert [(p.score, p.visible, p.box) for p in a.objects.values()] == [
            (p.score, p.visible, p.box) for p in b.objects.values()
        ]
    session.prompt(7, 2, CLICK)
    followed.clear()
    list(session.propagate())
    assert followed == [(frame, (2,)) for frame in (0, 1, 3, 4, 5, 6, 8, 9, 10, 11)], "frame 7 is prompted now"
    followed.clear()
    session.remove(2)
    assert [list(result.objects) for result in session.propagate()] == [[1]] * COUNT
    assert followed == []


def test_a_prompt_replaces_or_extends_the_one_before(session: Session) -> None:
    session.prompt(0, 1, st.Prompt(points=[(20, 20)], box=(10, 10, 50, 50)))
    session.prompt(0, 1, st.Prompt(points=[(30, 30)], labels=[0]), extend=True)
    kept = session.prompts[1][0]
    assert (kept.points, kept.labels, kept.box) == (((20, 20), (30, 30)), (1, 0), (10, 10, 50, 50))
    session.prompt(0, 1, CLICK)
    assert session.prompts[1][0] is CLICK


def test_leaving_the_loop_keeps_what_was_tracked(session: Session) -> None:
    session.prompt(0, 1, CLICK)
    for result in session.propagate():
        if result.index == 4:
            break
    assert [result.index for result in session.results()] == [0, 1, 2, 3, 4]
    propagation = session.propagate(4)
    next(propagation)
    next(propagation)
    propagation.close()
    assert list(propagation) == []
    assert session.result(5).objects.keys() == {1}
    assert session.result(6).objects == {}


def test_clear_remove_and_reset(session: Session) -> None:
    session.prompt(0, 1, CLICK)
    session.prompt(3, 1, CLICK)
    session.prompt(3, 2, CLICK)
    assert list(session.clear(3, 1).objects) == [2], "not propagated yet, so nothing is left"
    list(session.propagate())
    assert list(session.clear(0, 1).objects) == [1, 2], "as if it had been tracked"
    with pytest.raises(PromptError, match="object 1 has no prompt; prompt it, or remove it"):
        session.propagate()
    session.remove(1)
    assert list(session.result(3).objects) == [2]
    session.reset()
    assert (session.object_ids, list(session.results()), session.first_prompted) == ((), [], None)
    assert session._tracker._traces.used == 0


def test_save(session: Session, tmp_path: Path) -> None:
    session.prompt(4, 3, CLICK)
    list(session.propagate(2, 6))
    session.save(tmp_path / "m.jsonl")
    reader = st.read_masklets(tmp_path / "m.jsonl")
    assert (reader.header.source, reader.header.model) == (session.video.name, "nano")
    assert [(result.index, list(result.objects)) for result in reader] == [(index, [3]) for index in range(2, 7)]
    with pytest.raises(SinkError):
        session.save(tmp_path)


WRONG = [
    ((0, 1, st.Prompt(points=[(97, 3)])), r"point \(97, 3\) lies outside the 96x64 frame"),
    ((0, 1, st.Prompt(box=(100, 0, 120, 9))), r"box \(100.0, .*\) lies outside the 96x64 frame"),
    ((0, 1, st.Prompt(mask=np.ones((3, 4), bool))), "mask is 4x3 but the frame is 96x64"),
    ((12, 1, CLICK), "frame 12 is not in .*a.mp4, which has frames 0 to 11"),
    ((-1, 1, CLICK), "frame -1 is not in"),
    ((1.5, 1, CLICK), "frame 1.5 is not an integer"),
    ((0, "cat", CLICK), "object id 'cat' is not an integer"),
    ((0, -3, CLICK), "object id -3 is negative"),
    ((0, 1, [(20, 20)]), "is not a Prompt"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_refused_prompt_changes_nothing(session: Session, arguments: Any, message: str) -> None:
    session.prompt(0, 7, CLICK)
    with pytest.raises(PromptError, match=message):
        session.prompt(*arguments)
    assert (session.object_ids, list(session.prompts[7])) == ((7,), [0])
    assert len(list(session.propagate())) == COUNT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": [(1, 2)], "labels": [1, 0]}, "1 points but 2 labels"),
        ({"points": [(float("nan"), 2)]}, "not 2 finite numbers"),
        ({"box": (5, 5, 5, 9)}, r"box \(5.0, 5.0, 5.0, 9.0\) is empty"),
        ({"points": [(1, 2)], "labels": [3]}, "label 3 is neither"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused_before_it_comes_here(arguments: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        st.Prompt(**arguments)


def test_wrong_calls_are_named(session: Session) -> None:
    calls: list[tuple[str, Any]] = [
        ("no object to propagate", session.propagate),
        ("object 4 is not in the session; its objects: none", lambda: session.remove(4)),
        ("object 4 is not in the session", lambda: session.clear(0, 4)),
        ("frame 99 is not in", lambda: session.result(99)),
        ("frame 99 is not in", lambda: session.logits(99)),
        ("cannot extend a prompt", lambda: session.prompt(0, 1, st.Prompt(box=(1, 1, 9, 9)), extend=True)),
    ]
    for message, call in calls:
        with pytest.raises(PromptError, match=message):
            call()
    session.prompt(3, 1, CLICK)
    for message, call in [
        ("frame 12 is not in", lambda: session.propagate(12)),
        ("frame 12 is not in", lambda: session.propagate(0, 12)),
        ("last frame 2 comes before the first, 5; go there with reverse=True", lambda: session.propagate(5, 2)),
        ("last frame 5 comes after the first, 2", lambda: session.propagate(2, 5, reverse=True)),
        ("object 1 has no prompt on frame 2; prompted frames: 3", lambda: session.clear(2, 1)),
    ]:
        with pytest.raises(PromptError, match=message):
            call()
    assert [result.index for result in session.propagate(0, 4)] == [0, 1, 2, 3, 4]


def test_there_is_a_limit_of_objects(clip: Path) -> None:
    with Session(clip, model(tracking={"max_objects": 2})) as session:
        session.prompt(0, 1, CLICK)
        session.prompt(0, 2, CLICK)
        with pytest.raises(PromptError, match="object 3 would be number 3 of at most 2"):
            session.prompt(0, 3, CLICK)


def test_a_step_that_fails_half_way_changes_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.prompt(0, 1, CLICK)
    list(session.propagate(0, 5))

    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    def use() -> None:
        session.prompt(2, 9, CLICK)
        list(session.propagate())

    for step in ("segment_points", "remember"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sam2track.steps.{step}", broken)
            with pytest.raises(RuntimeError, match="out of memory"):
                use()
        assert [result.index for result in session.results()] == [0, 1, 2, 3, 4, 5]
    assert session.object_ids == (1, 9)
    assert [len(result.objects) for result in session.propagate()] == [2] * COUNT


def test_damaged_frames_are_left_out_and_cannot_be_prompted(tmp_path: Path) -> None:
    options = {"preset": "ultrafast", "g": "5"}
    whole = write_clip(tmp_path / "whole.mp4", moving_square(20), options=options)
    with Session(damage_packets(whole, tmp_path / "bad.mp4", [7, 8]), model()) as session:
        with pytest.raises(PromptError, match=r"frame 7 of .*bad.mp4 is damaged; prompt another one"):
            session.prompt(7, 1, CLICK)
        session.prompt(3, 1, CLICK)
        assert [result.index for result in session.propagate(3, 11)] == [3, 4, 5, 6, 9, 10, 11]


def test_sources(tmp_path: Path, clip: Path) -> None:
    with Session(write_images(tmp_path / "folder", moving_square(4)), model()) as session:
        session.prompt(2, 1, CLICK)
        assert len(list(session.propagate(reverse=True))) == 3
    with st.open_recording(clip) as video:
        with Session(video, model()):
            pass
        assert video.read(3) is not None, "the caller's to close"
    with pytest.raises(SourceError, match="camera 0 can be read only as it comes"):
        Session("0", model())
    with pytest.raises(ConfigError, match="'nono' is no model"):
        Session(clip, "nono")
    with pytest.raises(ConfigError, match="image_size= has no effect on a loaded model"):
        Session(clip, model(), weights=None, image_size=512)
    Session(clip, model(), weights=None).close()
    with pytest.raises(ConfigError, match="most_prompted is 0; give 1 or more"):
        Session(clip, model(), most_prompted=0)
    session = Session(clip, model())
    session.close()
    with pytest.raises(SourceError, match="is closed"):
        session.prompt(0, 1, CLICK)


def test_features_and_frames_are_kept_within_their_budgets(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    plain = Segmenter.encode
    monkeypatch.setattr(Segmenter, "encode", lambda self, frame: encoded.append(frame.index) or plain(self, frame))
    with Session(clip, model()) as session:
        session.prompt(0, 1, CLICK)
        list(session.propagate())
        list(session.propagate(11, reverse=True))
        assert encoded == list(range(COUNT)), "once each"
        features = session._tracker._features.used
    encoded.clear()
    with Session(clip, model(), budget=Budget(features=features // 3)) as session:
        session.prompt(0, 1, CLICK)
        list(session.propagate())
        assert encoded == list(range(COUNT))
        assert session._tracker._features.used <= features // 3


def test_only_masks_grow_with_the_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", moving_square(60) * 10)
    with Session(path, model(), budget=Budget(2**17, 2**17, 2**17)) as session:
        session.prompt(0, 1, CLICK)
        for _ in session.propagate():
            tracker = session._tracker
            assert tracker._traces.used <= 2**17
            assert tracker._features.used <= 2**17
        history = tracker.histories[1]
        assert len(history.tracked) == 599
        assert sum(len(entry.counts) for entry in history.tracked.values()) < 100 * 599


def test_what_several_objects_need_again_is_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both objects' memories of the frames before 120 were dropped; recalling one must not drop the other's again."""
    path = write_clip(tmp_path / "long.mp4", moving_square(201))
    read = []

    def gathered(objects: Any, *sizes: Any) -> Any:
        read.append([(len(one.slots), len(one.pointers)) for one in objects])
        return gather(objects, *sizes)

    monkeypatch.setattr(tracking, "gather", gathered)
    with Session(path, model(), budget=Budget(memory=2**17), most_prompted=1) as session:
        for object_id in (1, 2, 3):
            session.prompt(0, object_id, CLICK)
        list(session.propagate())
        assert session._tracker._traces._spacing >= 4
        for object_id in (1, 2, 3):
            session.prompt(120, object_id, CLICK)
        read.clear()
        list(session.propagate(start=120, end=122))
    assert [sizes for sizes in read if len(sizes) == 3] == [[(6, 15)] * 3] * 2


def test_nano_from_a_name(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(6))
    with st.Session(path, "nano", image_size=64, device="cpu", offload=True) as session:
        session.prompt(0, 1, st.Prompt(box=(4, 16, 24, 36)))
        results = list(session.propagate())
    assert len(results) == 6
    assert session.logits(3)[1].shape == (16, 16)
