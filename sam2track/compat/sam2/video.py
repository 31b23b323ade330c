"""``SAM2VideoPredictor``: the official interface to sessions over a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2track import pixels
from sam2track.compat.sam2.arrays import as_array
from sam2track.data import Mask, Point, Prompt
from sam2track.errors import PromptError
from sam2track.segmenter import Segmenter
from sam2track.sessions import Session

NOT_THERE = -1024.0  # logits of an object that is not known on a frame

State = dict[str, Any]
Shown = tuple[int, list[int], Tensor]  # frame index, object ids, logits [N, 1, H, W] of the video's size


class SAM2VideoPredictor:
    """Prompts and tracks objects in a video; an inference state holds one video and its objects.

    Frames are read when they are needed. Of an object's memories only what a later frame may read is kept, within
    the budget of ``Session``.

    Args:
        model: what ``build_sam2`` gives.
        max_cond_frames_in_attn: prompted frames that a frame reads, the closest in time; -1 is all.
    """

    def __init__(self, model: Segmenter, max_cond_frames_in_attn: int = -1) -> None:
        self.model = model
        self.image_size = model.sizes.image_size
        self._most_prompted = None if max_cond_frames_in_attn < 0 else max_cond_frames_in_attn

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """Load by repository, such as ``facebook/sam2.1-hiera-tiny``; ``kwargs`` as ``build_sam2_video_predictor``."""
        from sam2track.compat.sam2.build import build_sam2_video_predictor_hf

        return build_sam2_video_predictor_hf(model_id, **kwargs)

    @property
    def device(self) -> torch.device:
        """Where the image encoder runs."""
        return torch.device(self.model.placement["image_encoder"].split(":", 1)[1].rsplit(":", 1)[0])

    def init_state(
        self,
        video_path: str | Path,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> State:
        """Open a video file or a folder of pictures. Loading flags change nothing: frames are read on demand."""
        session = Session(video_path, self.model, most_prompted=self._most_prompted, offload=offload_state_to_cpu)
        video = session.video
        size = {"num_frames": len(video), "video_height": video.height, "video_width": video.width}
        return {"session": session, "obj_ids": [], **size}

    def add_new_points_or_box(
        self,
        inference_state: State,
        frame_idx: int,
        obj_id: int,
        points: ArrayLike | Tensor | None = None,
        labels: ArrayLike | Tensor | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: ArrayLike | Tensor | None = None,
    ) -> Shown:
        """Prompt an object with points [P, 2] and labels [P], a box [4], or both. Shows the frame.

        Coordinates are pixels; if not ``normalize_coords``, shares of the picture.
        """
        if (points is None) != (labels is None):
            raise PromptError("points and labels must be given together")
        state = inference_state
        scale = (1, 1) if normalize_coords else (state["video_width"], state["video_height"])
        prompt = Prompt(
            points=cast("Sequence[Point]", [] if points is None else _rows(points, 2, scale)),
            labels=None if labels is None else [int(label) for label in as_array(labels).reshape(-1)],
            box=None if box is None else cast(Any, tuple(_rows(box, 4, (*scale, *scale))[0])),
        )
        session = _session(state)
        session.prompt(frame_idx, obj_id, prompt, extend=not clear_old_points)
        return _shown(state, frame_idx)

    def add_new_points(self, *args: Any, **kwargs: Any) -> Shown:
        """The former name of ``add_new_points_or_box``."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(self, inference_state: State, frame_idx: int, obj_id: int, mask: ArrayLike | Tensor) -> Shown:
        """Prompt an object with a mask [H, W]; of another size than the video's, it is resized. Shows the frame."""
        array = as_array(mask)
        given: Mask = array if array.dtype == np.bool_ else array > 0
        if given.ndim == 2 and given.size:  # else it goes on as it is, to be refused
            given = pixels.resize_mask(given, (inference_state["video_height"], inference_state["video_width"]))
        _session(inference_state).prompt(frame_idx, obj_id, Prompt(mask=given))
        return _shown(inference_state, frame_idx)

    def propagate_in_video_preflight(self, inference_state: State) -> None:
        """Put new prompts into memory, as ``propagate_in_video`` does by itself when it starts."""
        _session(inference_state).propagate().close()

    def propagate_in_video(
        self,
        inference_state: State,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Shown]:
        """Track all objects; yields each frame. Starts at the earliest prompted frame unless told.

        As the official one, it goes ``max_frame_num_to_track`` frames beyond the first, and in reverse not at all
        from frame 0.
        """
        session = _session(inference_state)
        start = session.first_prompted if start_frame_idx is None else start_frame_idx
        if reverse and start == 0:
            return
        end = None
        if start is not None and max_frame_num_to_track is not None:
            last = start - max_frame_num_to_track if reverse else start + max_frame_num_to_track
            end = min(max(last, 0), inference_state["num_frames"] - 1)
        for result in session.propagate(start, end, reverse=reverse):
            yield _shown(inference_state, result.index)

    def clear_all_prompts_in_frame(
        self, inference_state: State, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> Shown | None:
        """Take back the prompts of an object on a frame. Shows the frame if ``need_output``."""
        _session(inference_state).clear(frame_idx, obj_id)
        return _shown(inference_state, frame_idx) if need_output else None

    def remove_object(
        self, inference_state: State, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, Tensor]]]:
        """Forget an object; one that does not exist is an error if ``strict``.

        Returns:
            The ids left, and if ``need_output`` the masks of the frames where it was prompted.
        """
        session = _session(inference_state)
        frames: list[int] = []
        if strict or obj_id in session.object_ids:
            frames = list(session.prompts.get(obj_id, ()))
            session.remove(obj_id)
        inference_state["obj_ids"] = list(session.object_ids)
        needed = frames if need_output and session.object_ids else []
        return inference_state["obj_ids"], [(frame, _shown(inference_state, frame)[2]) for frame in needed]

    def reset_state(self, inference_state: State) -> None:
        """Forget every object."""
        _session(inference_state).reset()
        inference_state["obj_ids"] = []


def _session(state: State) -> Session:
    return cast(Session, state["session"])


def _shown(state: State, index: int) -> Shown:
    """All objects on a frame."""
    session = _session(state)
    state["obj_ids"] = list(session.object_ids)
    size = (state["video_height"], state["video_width"])
    known = session.logits(index)
    if not state["obj_ids"]:
        return index, [], torch.zeros(0, 1, *size)
    absent = torch.full((1, 1, *size), NOT_THERE)
    masks = {i: pixels.resize_logits(logits[None, None], size) for i, logits in known.items()}
    device = next(iter(masks.values()), absent).device
    return index, state["obj_ids"], torch.cat([masks.get(i, absent).to(device) for i in state["obj_ids"]])


def _rows(values: ArrayLike | Tensor, width: int, scale: tuple[float, ...]) -> list[list[float]]:
    """Rows of ``width`` numbers, scaled; anything that has no such rows goes on as it is, to be refused."""
    array = as_array(values).astype(np.float64)
    if array.size % width or array.ndim == 0:
        raise PromptError(f"prompt has coordinates of shape {list(array.shape)}; expected rows of {width}")
    return cast("list[list[float]]", (array.reshape(-1, width) * scale).tolist())
