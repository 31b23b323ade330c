"""New objects as a video brings them: discovery on what no masklet covers yet."""

from __future__ import annotations

import numpy as np

from sam2track.config import Config
from sam2track.contracts import MASK_STRIDE
from sam2track.data import FrameResult, Mask, Prompt
from sam2track.discovery.picture import discover
from sam2track.discovery.rules import DiscoveryRules
from sam2track.errors import ConfigError
from sam2track.pixels import survives
from sam2track.segmenter import Encoded
from sam2track.stills import ImageSegmenter
from sam2track.tracker import Tracker

POINTS_PER_SIDE = 16  # half of a still's: what is missed now may be found the next time


class Discoverer:
    """Looks for new objects on the first frame and again every so many; give one to ``track`` as its ``prompter``.

    ``track`` asks ``due`` of a frame, and where it is, ``find``s prompts for new objects. The frame's features are
    reused. What is found is a mask that is large enough, hardly covered by the objects there are, and hardly by a
    better one found on the same frame. One may serve clip after clip: a frame that does not come after the last one
    looked at begins another.

    Args:
        model: the tracker whose objects they will be, or another model for stills.
        every: frames from one discovery to the next; 0 looks at the first frame only.
        rules: of the discovery on one frame; by default those of the model, with 16 clicks a side.
        min_area: of a new object, as a share of the frame.
        max_covered: share of a new object that others may cover.

    Attributes:
        full: whether objects of the clip were left out so far because there was no room for more.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        model: Tracker | ImageSegmenter,
        *,
        every: int = 30,
        rules: DiscoveryRules | None = None,
        min_area: float = 0.001,
        max_covered: float = 0.2,
    ) -> None:
        if every < 0:
            raise ConfigError(f"every is {every}; expected frames, 0 or more")
        for name, share in (("min_area", min_area), ("max_covered", max_covered)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} is {share}; expected a share from 0 to 1")
        if isinstance(model, Tracker):
            model = ImageSegmenter(model.components, Config(model=model.name))
        self._segmenter = model
        self._every = every
        self._rules = rules or DiscoveryRules.of(model.config.model, points_per_side=POINTS_PER_SIDE)
        self._min_area = min_area
        self._max_covered = max_covered
        self._last = -1  # frame looked at
        self._next: float = 0
        self.full = False

    def due(self, index: int) -> bool:
        """Whether to look at frame ``index``."""
        return not self._last < index < self._next

    def find(self, encoded: Encoded, result: FrameResult, room: int) -> list[Prompt]:
        """Mask prompts for at most ``room`` new objects, best first.

        Args:
            encoded: the frame.
            result: the objects that are tracked on it.
            room: how many more may be.
        """
        index = encoded.frame.index
        self.full = self.full and index > self._last
        self._last, self._next = index, index + self._every if self._every else np.inf
        if room <= 0:
            self.full = True
            return []
        size = MASK_STRIDE * encoded.features.s4.shape[-1]  # that the tracker sees
        covered = np.zeros(result.size, dtype=bool)
        for prediction in result.objects.values():
            covered |= prediction.mask
        found = discover(encoded, self._segmenter, self._rules, within=~covered)
        prompts: list[Prompt] = []
        for candidate in sorted(found, key=lambda mask: -mask.score):
            mask = candidate.mask
            wanted = candidate.area >= self._min_area * mask.size and self._is_new(mask, candidate.area, covered)
            if wanted and survives(mask, size):
                if len(prompts) == room:
                    self.full = True
                    break
                covered |= mask
                prompts.append(Prompt(mask=mask))
        return prompts

    def _is_new(self, mask: Mask, area: int, covered: Mask) -> bool:
        return int((mask & covered).sum()) <= self._max_covered * area
