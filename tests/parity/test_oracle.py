"""The oracle itself: its clips are alive, and it notices every rule that is compared with it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity import oracle, scripts
from tests.parity.scripts import Do, Track
from tests.parity.test_clips import BUSY, FRAMES, MODELS, TOLERANCE, build

pytestmark = pytest.mark.parity

SEED = 4
LONGER = BUSY | {15: Do({1: BUSY[12].prompts[1]})}  # a third prompted frame
Change = Callable[[Any, dict[str, Tensor]], None]


@functools.lru_cache(maxsize=4)
def life(seed: int, occluded: float) -> tuple[Any, Tensor, Track]:
    predictor = build("nano", seed, occluded)
    predictor.add_all_frames_to_correct_as_cond = True
    frames = oracle.moving_texture(FRAMES, predictor.image_size, seed + 50)
    return predictor, frames, scripts.run_official(predictor, frames, LONGER)


@pytest.fixture(params=[0.0, 0.3], ids=["visible", "occluded"])
def lived(request: pytest.FixtureRequest) -> tuple[Any, Tensor, Track]:
    return life(SEED, request.param)


def test_masks_are_structured_and_move(lived: tuple[Any, Tensor, Track]) -> None:
    track = lived[2]
    masks = [seen.mask for frame in track for seen in frame.values() if seen.visible]
    areas = np.array([mask.mean() for mask in masks])
    assert np.mean((areas > 0.05) & (areas < 0.7)) > 0.8
    assert areas.std() > 0.02
    moved = [(a[1].mask ^ b[1].mask).mean() for a, b in itertools.pairwise(track)]
    assert np.mean(moved) > 0.01


def test_candidates_differ(lived: tuple[Any, Tensor, Track]) -> None:
    predictor, frames, _ = lived
    with oracle.listen(predictor) as said:
        scripts.run_official(predictor, frames, LONGER)
    iou = torch.cat([decoded.iou for decoded in said])
    assert iou.std(dim=0).min() > 0.01
    masks = torch.cat([decoded.masks for decoded in said]) > 0
    assert min((masks[:, i] ^ masks[:, j]).float().mean() for i in range(4) for j in range(i)) > 0.05


def test_every_candidate_gets_chosen_somewhere() -> None:
    chosen: set[int] = set()
    for seed in (0, 1, SEED):
        predictor, frames, _ = life(seed, 0.0)
        with oracle.listen(predictor) as said:
            scripts.run_official(predictor, frames, LONGER)
        chosen |= {int(decoded.iou[0, 1:].argmax()) for decoded in said}
    assert chosen == {0, 1, 2}


def test_objects_of_one_frame_differ_by_memory_alone(lived: tuple[Any, Tensor, Track]) -> None:
    """On a tracked frame nothing but memory tells one object from another."""
    tracked = [frame for t, frame in enumerate(lived[2]) if t not in LONGER and len(frame) > 1]
    differences = [
        (a.mask ^ b.mask).mean() for frame in tracked for a in frame.values() for b in frame.values() if a is not b
    ]
    assert max(differences) > 0.005


def test_objects_come_and_go() -> None:
    visible = [seen.visible for frame in life(SEED, 0.3)[2] for seen in frame.values()]
    assert 0.1 < np.mean(visible) < 0.9


def attribute(**values: object) -> Change:
    def change(predictor: Any, _: dict[str, Tensor]) -> None:
        for name, value in values.items():
            owners = [owner for owner in (predictor, predictor.sam_mask_decoder) if hasattr(owner, name)]
            assert owners
            for owner in owners:
                setattr(owner, name, value)

    return change


def without(name: str) -> Change:
    def change(_: Any, state: dict[str, Tensor]) -> None:
        state[name].zero_()

    return change


def slots_swapped(_: Any, state: dict[str, Tensor]) -> None:
    code = state["maskmem_tpos_enc"]
    code.copy_(code.flip(0))


CHANGES: dict[str, Change] = {
    "pointers from 6 frames only": attribute(max_obj_ptrs_in_encoder=7),
    "memories 2 frames apart": attribute(memory_temporal_stride_for_eval=2),
    "2 prompted frames": attribute(max_cond_frames_in_attn=2),
    "holes left open": attribute(fill_hole_area=0),
    "prompted masks not thresholded": attribute(binarize_mask_from_pts_for_mem_enc=False),
    "no stability rule": attribute(dynamic_multimask_via_stability=False),
    "one mask on tracking": attribute(multimask_output_for_tracking=False),
    "first pointer always": attribute(use_multimask_token_for_obj_ptr=False),
    "corrections not kept": attribute(add_all_frames_to_correct_as_cond=False),
    "no time in memory": without("maskmem_tpos_enc"),
    "time in memory reversed": slots_swapped,
    "no age of pointers": without("obj_ptr_tpos_proj.weight"),
    "no no-object code": without("no_obj_embed_spatial"),
    "no no-object pointer": without("no_obj_ptr"),
    "no no-memory code": without("no_mem_embed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_notices(change: str) -> None:
    """A tracker that got this rule wrong would fail the comparison of some clip, by far."""
    found = []
    for seed, occluded in ((SEED, 0.0), (2, 0.4), (1, 0.0)):
        predictor, frames, track = life(seed, occluded)
        wrong = oracle.construct(*MODELS["nano"], {"add_all_frames_to_correct_as_cond": True})
        state = {name: value.clone() for name, value in predictor.state_dict().items()}
        CHANGES[change](wrong, state)
        wrong.load_state_dict(state)
        found.append(scripts.difference(track, scripts.run_official(wrong, frames, LONGER)))
        if found[-1] > 3 * TOLERANCE:
            return
    raise AssertionError(f"only {found} of the mask pixels differ")
