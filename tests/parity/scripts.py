"""What a user does during a clip, carried out by the official package and by ours.

The official package knows the whole clip; made to live as a stream, it is asked for one frame at a
time, and a prompt on a tracked frame comes after that frame was tracked, which makes it a correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sam2track.backends import pytorch
from sam2track.config import Config
from sam2track.data import Frame, Prompt
from sam2track.network import weights
from sam2track.network.variants import Network, Variant
from sam2track.tracker import Tracker
from tests.parity import oracle

SIZE = (96, 128)  # height and width of the source video


class Do(NamedTuple):
    """What happens on one frame: objects leave, the frame is tracked with prompts, then prompted again."""

    prompts: Mapping[int, Prompt] = {}
    again: Mapping[int, Prompt] = {}
    remove: tuple[int, ...] = ()


class Seen(NamedTuple):
    """One object on one frame."""

    mask: NDArray[np.bool_]  # [H, W]
    visible: bool


Script = Mapping[int, Do]
Track = list[dict[int, Seen]]  # frame -> object id -> what was seen


def decisive(predictor: Any, frames: Tensor, script: Script) -> tuple[Track, bool]:
    """The official track, and whether no choice in it was so close that rounding could turn it.

    Choices are made between candidate masks by predicted IoU, between the single mask and the candidates by
    stability, and on visibility by object score. Memory is kept in bf16, which moves them by up to 5e-4.
    """
    with oracle.listen(predictor) as said:
        track = run_official(predictor, frames, script)
    for masks, iou, score, points in said:
        best, second = iou[0, 1:].sort(descending=True).values[:2]
        stability = float(predictor.sam_mask_decoder._get_stability_scores(masks[:, :1]))
        close = best - second < 1e-3 or (points > 1 and abs(stability - 0.98) < 2e-3)
        if abs(float(score)) < 0.02 or (close and score > 0):
            return track, False
    return track, True


def run_official(predictor: Any, frames: Tensor, script: Script, size: tuple[int, int] = SIZE) -> Track:
    """Masks of every object on every frame of ``frames`` [T, 3, S, S]."""
    state = oracle.begin(predictor, frames, size)
    track: Track = []
    for t in range(len(frames)):
        do = script.get(t, Do())
        logits: dict[int, Tensor] = {}
        with oracle.quiet():
            for i in do.remove:
                predictor.remove_object(state, i, strict=True, need_output=False)
            if state["obj_ids"]:
                for _, ids, masks in predictor.propagate_in_video(state, t, max_frame_num_to_track=0):
                    logits |= zip(ids, masks[:, 0], strict=True)
            for prompts in (do.prompts, do.again):
                for i, prompt in prompts.items():
                    _, ids, masks = _give(predictor, state, t, i, prompt)
                    logits[i] = masks[ids.index(i), 0]
        track.append({i: Seen((x > 0).numpy(), _object_score(state, t, i) > 0) for i, x in logits.items()})
    return track


def _give(predictor: Any, state: dict[str, Any], t: int, i: int, prompt: Prompt) -> Any:
    if prompt.mask is not None:
        return predictor.add_new_mask(state, t, i, prompt.mask)
    points = [list(point) for point in prompt.points] or None
    labels = None if points is None else list(prompt.labels or ())
    box = None if prompt.box is None else list(prompt.box)
    return predictor.add_new_points_or_box(state, t, i, points=points, labels=labels, box=box)


def _object_score(state: dict[str, Any], t: int, i: int) -> float:
    index = state["obj_id_to_idx"][i]
    for outputs in (state["temp_output_dict_per_obj"][index], state["output_dict_per_obj"][index]):
        for kind in ("cond_frame_outputs", "non_cond_frame_outputs"):
            if t in outputs[kind]:
                return float(outputs[kind][t]["object_score_logits"])
    raise AssertionError(f"the official package has no output for object {i} on frame {t}")


def our_tracker(predictor: Any, variant: Variant, image_size: int, **memory: object) -> Tracker:
    """Our tracker with the official predictor's weights; ``memory`` are settings of the memory table."""
    network = Network(variant, image_size)
    weights.load_official(network, predictor.state_dict())
    config = Config(components={"default": "torch:cpu:fp32"}, memory={"prompted": 64, **memory})
    return Tracker(pytorch.components(network, config.components.default), config)


def run_ours(tracker: Tracker, frames: Tensor, script: Script, size: tuple[int, int] = SIZE) -> Track:
    """The same by ours."""
    picture = np.zeros((*size, 3), np.uint8)  # never looked at: both sides are given the same tensors
    track: Track = []
    for t, image in enumerate(frames):
        do = script.get(t, Do())
        for i in do.remove:
            tracker.remove(i)
        frame = Frame(picture, t, Fraction(t, 25))
        objects = dict(tracker.step(tracker.encode(frame, image[None]), do.prompts).objects)
        if do.again:
            objects |= tracker.refine(do.again).objects
        track.append({i: Seen(p.mask, p.visible) for i, p in objects.items()})
    return track


def difference(a: Track, b: Track) -> float:
    """Differing pixels as a share of the pixels in either mask, over all objects and frames."""
    pairs = [(a[t][i].mask, b[t][i].mask) for t in range(len(a)) for i in a[t]]
    return sum(int((x ^ y).sum()) for x, y in pairs) / max(1, sum(int((x | y).sum()) for x, y in pairs))


def worst_frame(a: Track, b: Track) -> float:
    """The largest share of a frame's pixels on which two masks of one object differ."""
    return max(float((a[t][i].mask ^ b[t][i].mask).mean()) for t in range(len(a)) for i in a[t])


def visibility(track: Track) -> list[dict[int, bool]]:
    """Frame -> object id -> visible."""
    return [{i: seen.visible for i, seen in frame.items()} for frame in track]
