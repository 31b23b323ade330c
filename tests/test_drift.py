"""Drift: what is compared, and that an error is laid at the right component's door."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

import sam2track as st
from sam2track import backends, drift
from sam2track.backends import fake
from sam2track.contracts import CONTRACTS, MaskCandidates
from sam2track.errors import PromptError
from tests.clips import moving_square, square_box, write_clip

PROMPTS = {0: {1: st.Prompt(box=square_box(0, (120, 160), 40))}}  # inside bright(), too


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    path = write_clip(tmp_path_factory.mktemp("drift") / "clip.mp4", moving_square(6, (120, 160), 40))
    with st.open_source(path) as source:
        return list(source)


def nano(precision):
    return st.Config.load("nano", image_size=64, pin={"default": f"torch:cpu:{precision}"})


def bright(count=6):
    """Frames with a white square that the fake components follow."""
    images = []
    for index in range(count):
        image = np.full((64, 64, 3), 20, np.uint8)
        image[16:40, 8 + 4 * index : 32 + 4 * index] = 250
        images.append(st.Frame(image, index, Fraction(index, 30)))
    return images


def load_two(monkeypatch, ours, reference):
    """``backends.load`` gives ``ours`` for a config at 64 px, ``reference`` for one at 96 px."""
    monkeypatch.setattr(backends, "load", lambda config: ours if config.image_size == 64 else reference)
    return st.Config(image_size=64), st.Config(image_size=96)


def test_a_configuration_does_not_drift_from_itself(frames):
    found = drift.compare(frames, PROMPTS, nano("fp32"), nano("fp32"))
    assert found.masks[1].frames == [0, 1, 2, 3, 4, 5]
    assert found.masks[1].ious == [1.0] * 6
    assert found.masks[1].first_below(1.0) is None
    assert found.masks[1].visibility == []
    assert list(found.components) == list(CONTRACTS)
    for outputs in found.components.values():
        assert all(output.relative_error == 0 and output.worst == 0 for output in outputs.values())


def test_half_precision_drifts_a_little_in_every_component(frames):
    seen = []
    found = drift.compare(frames, PROMPTS, nano("bf16"), nano("fp32"), seen.append)
    assert [result.index for result in seen] == [0, 1, 2, 3, 4, 5]
    assert found.placement["mask_decoder"] == "torch:cpu:bf16"
    assert found.against["mask_decoder"] == "torch:cpu:fp32"
    assert {name: list(outputs) for name, outputs in found.components.items()} == {
        name: [port.name for port in contract.outputs] for name, contract in CONTRACTS.items()
    }
    assert found.components["image_encoder"]["s16"].calls == 6
    assert found.components["memory_attention"]["fused"].calls == 5
    for name, output in (("image_encoder", "s16"), ("memory_attention", "fused"), ("memory_encoder", "tokens")):
        entry = found.components[name][output]
        assert 1e-4 < entry.relative_error <= entry.worst < 0.1, name
    assert found.masks[1].mean > 0.9


def test_a_broken_component_is_the_one_that_shows(monkeypatch):
    good = fake.components(64)

    def inverted(*tensors):
        candidates = good.mask_decoder(*tensors)
        return MaskCandidates(-candidates.logits, *candidates[1:])

    config, against = load_two(monkeypatch, replace(good, mask_decoder=inverted), good)
    found = drift.compare(bright(), PROMPTS, config, against)
    errors = {name: {o: e.relative_error for o, e in outputs.items()} for name, outputs in found.components.items()}
    assert errors.pop("mask_decoder") == {"logits": 2.0, "iou": 0, "pointer": 0, "object_score": 0}
    assert {error for outputs in errors.values() for error in outputs.values()} == {0}
    assert found.masks[1].mean == 0


def test_an_output_that_is_not_a_number_counts_as_infinitely_wrong(monkeypatch):
    good = fake.components(64)
    broken = replace(good, memory_encoder=lambda *tensors: torch.full_like(good.memory_encoder(*tensors), torch.nan))
    config, against = load_two(monkeypatch, broken, good)
    entry = drift.compare(bright(), PROMPTS, config, against).components["memory_encoder"]["tokens"]
    assert entry.relative_error == entry.worst == math.inf


def test_visibility_and_the_first_bad_frame_are_told(monkeypatch):
    good = fake.components(64)
    calls = []

    def blind_from_frame_3(*tensors):
        calls.append(1)
        candidates = good.mask_decoder(*tensors)
        return candidates if len(calls) < 4 else candidates._replace(object_score=-candidates.object_score)

    config, against = load_two(monkeypatch, replace(good, mask_decoder=blind_from_frame_3), good)
    monkeypatch.setattr(drift, "_shadowed", lambda reference, *_: reference)  # so that calls are frames
    found = drift.compare(bright(), PROMPTS, config, against).masks[1]
    assert found.visibility == [3, 4, 5]
    assert found.ious == [1, 1, 1, 0, 0, 0]
    assert found.first_below(0.95) == 3
    assert found.worst == (3, 0.0)
    assert found.mean == 0.5


def test_models_of_different_size_are_compared_by_their_masks_alone(monkeypatch):
    config, against = load_two(monkeypatch, fake.components(64), fake.components(96))
    found = drift.compare(bright(), PROMPTS, config, against)
    assert found.components == {}
    assert found.masks[1].mean > 0.8


def test_corrections_reach_both_sides_and_a_prompt_past_the_end_is_refused(monkeypatch):
    config, against = load_two(monkeypatch, fake.components(64), fake.components(64))
    prompts = {**PROMPTS, 2: {1: st.Prompt(points=[(20, 20)]), 2: st.Prompt(points=[(30, 30)])}}
    found = drift.compare(bright(), prompts, config, against)
    assert found.masks[2].frames == [2, 3, 4, 5]
    assert found.components["prompt_encoder"]["sparse"].calls >= 3
    with pytest.raises(PromptError, match="prompts for frame 9 were never given"):
        drift.compare(bright(), {9: PROMPTS[0]}, config, against)
