"""The official calls over our sessions: side by side with the official package, and by themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sam2.build_sam
import sam2.sam2_video_predictor
import torch

from sam2track.compat.sam2 import build_sam
from sam2track.compat.sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2track.errors import PromptError, SourceError
from tests.clips import index_of, moving_square, numbered, write_clip, write_images
from tests.parity import oracle
from tests.parity.scripts import SIZE
from tests.parity.test_session import FRAMES, Case, Tape, drawn, our_session

POINTS, LABELS = np.array([[40, 30], [100, 70]], np.float32), np.array([1, 0], np.int32)
MASK = np.zeros(SIZE, bool)
MASK[30:70, 40:90] = True

EXAMPLE = """
import torch
from sam2track.compat.sam2.build_sam import build_sam2_video_predictor

predictor = build_sam2_video_predictor(model_cfg, checkpoint)

with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
    state = predictor.init_state(video)

    # add new prompts and instantly get the output on the same frame
    frame_idx, object_ids, masks = predictor.add_new_points_or_box(state, **prompts)

    # propagate the prompts to get masklets throughout the video
    for frame_idx, object_ids, masks in predictor.propagate_in_video(state):
        seen.append((frame_idx, object_ids, masks))
"""


def use(predictor: Any, state: Any) -> list[Any]:
    """Every call, the arguments by position and by name as the official notebooks have them."""
    p, shown = predictor, []

    def add(*frames: Any) -> None:
        shown.extend((frame, list(ids), masks) for frame, ids, masks in frames)  # copies: a reset empties the list

    add(p.add_new_points_or_box(inference_state=state, frame_idx=0, obj_id=1, points=POINTS, labels=LABELS))
    add(p.add_new_points_or_box(state, 0, 4, box=np.array([60, 40, 110, 90], np.float32)))
    add(*p.propagate_in_video(state))
    add(p.add_new_points_or_box(state, 9, 1, POINTS[:1], LABELS[:1]))
    add(p.add_new_points_or_box(state, 9, 1, POINTS[1:], LABELS[1:], clear_old_points=False))
    add(p.add_new_points(state, 12, 4, torch.tensor([[0.3, 0.4]]), torch.tensor([1]), normalize_coords=False))
    add(p.add_new_mask(state, 5, 6, MASK))
    p.propagate_in_video_preflight(state)
    add(*p.propagate_in_video(state, start_frame_idx=9, max_frame_num_to_track=4))
    add(*p.propagate_in_video(state, 9, 30, True))
    add(*p.propagate_in_video(state, 0, reverse=True))
    add(p.clear_all_prompts_in_frame(state, 5, 6))
    assert p.clear_all_prompts_in_frame(state, 12, 4, need_output=False) is None
    ids, updated = p.remove_object(state, 6, strict=True)
    add(*[(frame, ids, masks) for frame, masks in updated])
    add((-1, p.remove_object(state, 77)[0], torch.zeros(0)))
    add(*p.propagate_in_video(state, 7, 3))
    p.reset_state(state)
    add(p.add_new_mask(state, 2, 3, torch.from_numpy(MASK)))
    add(*p.propagate_in_video(state, max_frame_num_to_track=2))
    add((-1, p.remove_object(state, 3)[0], torch.zeros(0)))
    return shown


@pytest.mark.parity
def test_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    official = drawn("small", 1, 0.0)
    official.add_all_frames_to_correct_as_cond = False
    frames = oracle.moving_texture(FRAMES, official.image_size, 51)
    with oracle.quiet():
        expected = use(official, oracle.begin(official, frames, SIZE))
    session = our_session(Case(official, frames, []), "small", monkeypatch)
    monkeypatch.setattr("sam2track.sessions.session.open_recording", lambda *_, **__: Tape(FRAMES))
    ours = SAM2VideoPredictor(session._tracker._segmenter)
    shown = use(ours, ours.init_state("frames"))
    assert [(frame, ids) for frame, ids, _ in shown] == [(frame, ids) for frame, ids, _ in expected]
    for (frame, _, mine), (_, _, theirs) in zip(shown, expected, strict=True):
        assert (mine.shape, mine.dtype, mine.device) == (theirs.shape, theirs.dtype, theirs.device)
        assert ((mine > 0) != (theirs > 0)).sum() <= 1e-3 * max(int((theirs > 0).sum()), 1), f"frame {frame}"
        assert torch.equal(mine <= -1000, theirs <= -1000), "what is not there"


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("folder", [False, True])
def test_the_official_example_with_only_the_import_changed(tmp_path: Path, folder: bool) -> None:
    images = moving_square(6)
    video = write_images(tmp_path / "jpeg", images, "{:05d}.jpg") if folder else write_clip(tmp_path / "a.mp4", images)
    prompts = {"frame_idx": 0, "obj_id": 1, "box": np.array([4, 16, 24, 36], np.float32)}
    seen: list[Any] = []
    exec(EXAMPLE, {"model_cfg": "nano", "checkpoint": None, "video": str(video), "prompts": prompts, "seen": seen})
    assert [(frame, ids) for frame, ids, _ in seen] == [(frame, [1]) for frame in range(6)]
    assert all(masks.shape == (1, 1, 64, 96) and masks.dtype == torch.float32 for _, _, masks in seen)
    rows, columns = np.nonzero(seen[-1][2][0, 0].numpy() > 0)
    assert (columns.mean(), rows.mean()) == pytest.approx((24, 28), abs=4), "the square of frame 5"


def test_signatures_are_the_official_ones() -> None:
    theirs, ours = sam2.sam2_video_predictor.SAM2VideoPredictor, SAM2VideoPredictor
    names = [name for name in vars(ours) if not name.startswith("_") and callable(getattr(ours, name))]
    assert len(names) == 10
    for owner, other, own in [(theirs, ours, names), (sam2.build_sam, build_sam, build_sam.__all__)]:
        for name in own:
            official = inspect.signature(getattr(owner, name)).parameters
            mine = inspect.signature(getattr(other, name)).parameters
            assert list(mine) == list(official), name
            if "build" not in name:  # there the device differs, and lists of defaults
                assert [p.default for p in mine.values()] == [p.default for p in official.values()], name


@pytest.fixture
def predictor() -> SAM2VideoPredictor:
    return build_sam.build_sam2_video_predictor("nano", device="cpu", hydra_overrides_extra=["++model.image_size=64"])


def test_wrong_calls_are_named_and_leave_the_state_usable(tmp_path: Path, predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(write_clip(tmp_path / "a.mp4", moving_square(5)))
    wrong: list[tuple[str, Any]] = [
        ("points and labels must be given together", lambda: predictor.add_new_points_or_box(state, 0, 1, [[1, 2]])),
        ("prompt is empty", lambda: predictor.add_new_points_or_box(state, 0, 1)),
        ("1 points but 2 labels", lambda: predictor.add_new_points_or_box(state, 0, 1, [[1, 2]], [1, 1])),
        ("rows of 2", lambda: predictor.add_new_points_or_box(state, 0, 1, [[1, 2, 3]], [1])),
        ("frame 5 is not in", lambda: predictor.add_new_points_or_box(state, 5, 1, [[1, 2]], [1])),
        ("cannot extend", lambda: predictor.add_new_points_or_box(state, 0, 1, None, None, False, True, [1, 2, 3, 4])),
        (r"mask has shape \[3, 3, 3\]", lambda: predictor.add_new_mask(state, 0, 1, np.ones((3, 3, 3)))),
        ("mask is empty", lambda: predictor.add_new_mask(state, 0, 1, np.zeros((3, 3)))),
        ("no object to propagate", lambda: list(predictor.propagate_in_video(state))),
        ("frame 9 is not in", lambda: predictor.clear_all_prompts_in_frame(state, 9, 1)),
        ("object 1 is not in the session", lambda: predictor.clear_all_prompts_in_frame(state, 0, 1)),
        ("object 8 is not in the session", lambda: predictor.remove_object(state, 8, strict=True)),
    ]
    for message, call in wrong:
        with pytest.raises(PromptError, match=message):
            call()
    assert state["obj_ids"] == []
    predictor.add_new_points_or_box(state, 2, 1, [[30, 30]], [1])
    assert [frame for frame, _, _ in predictor.propagate_in_video(state)] == [2, 3, 4]
    with pytest.raises(PromptError, match="frame 40 is not in"):
        list(predictor.propagate_in_video(state, 40))
    assert predictor.remove_object(state, 1) == ([], [])


def test_a_camera_is_refused(predictor: SAM2VideoPredictor) -> None:
    with pytest.raises(SourceError, match="can be read only as it comes"):
        predictor.init_state("0")


def test_what_the_state_tells(tmp_path: Path, predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(write_clip(tmp_path / "a.mp4", numbered(7)), offload_state_to_cpu=True)
    assert (state["num_frames"], state["video_height"], state["video_width"], state["obj_ids"]) == (7, 64, 96, [])
    assert index_of(state["session"].video.read(5).image) == 5
    assert predictor.device == torch.device("cpu")
    predictor.add_new_mask(state, 0, 2, MASK[:64, :96])
    assert state["obj_ids"] == [2]


def test_tensors_with_a_gradient_are_as_good_as_arrays(tmp_path: Path, predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(write_clip(tmp_path / "a.mp4", moving_square(3)))

    def shown(given: Callable[[Any], Any]) -> list[torch.Tensor]:
        predictor.reset_state(state)
        return [
            predictor.add_new_mask(state, 0, 1, given(MASK[:64, :96]))[2],
            predictor.add_new_points_or_box(state, 0, 2, given([[14, 26]]), given([1]))[2],
            predictor.add_new_points_or_box(state, 0, 3, box=given([4, 16, 24, 36]))[2],
        ]

    tensors = shown(lambda values: torch.tensor(values, dtype=torch.float32, requires_grad=True))
    for ours, plain in zip(tensors, shown(np.array), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parity
@pytest.mark.parametrize("size", [(48, 64), (192, 256), (100, 90)])
def test_a_mask_of_another_size_is_resized(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """To the video's size, where the official package goes straight to the model's: the border may move a little."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    mask = (x / size[1] - 0.4) ** 2 + (y / size[0] - 0.5) ** 2 < 0.05
    official = drawn("small", 1, 0.0)
    frames = oracle.moving_texture(FRAMES, official.image_size, 51)
    with oracle.quiet():
        theirs = official.add_new_mask(oracle.begin(official, frames, SIZE), 0, 1, mask)[2]
    session = our_session(Case(official, frames, []), "small", monkeypatch)
    monkeypatch.setattr("sam2track.sessions.session.open_recording", lambda *_, **__: Tape(FRAMES))
    predictor = SAM2VideoPredictor(session._tracker._segmenter)
    ours = predictor.add_new_mask(predictor.init_state("frames"), 0, 1, mask)[2]
    assert ours.shape == theirs.shape == (1, 1, *SIZE)
    assert ((ours > 0) != (theirs > 0)).sum() <= 0.02 * (theirs > 0).sum()
