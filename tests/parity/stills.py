"""The official package's stills and ours, with the same weights; and pictures to show them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sam2track import hub
from sam2track.backends import pytorch
from sam2track.data import Image
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network, Variant
from sam2track.pins import Pin
from sam2track.pixels import MEAN, STD
from sam2track.stills import ImageSegmenter, MaskRules
from tests.parity import oracle, vision
from tests.parity.test_components import NARROW, SAM_2

vision.install()
with oracle.quiet():
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from sam2.sam2_image_predictor import SAM2ImagePredictor

MODELS: dict[str, tuple[Variant, int]] = {
    "nano": (VARIANTS["nano"], VARIANTS["nano"].image_size),  # its own weights; all others are drawn
    "drawn nano": (VARIANTS["nano"], 160),
    "tiny": (VARIANTS["sam2.1-tiny"], 128),
    "narrow": (NARROW, 192),
    "SAM 2": (SAM_2, 128),
}


class Both(NamedTuple):
    """One model on both sides."""

    official: Any  # the official model
    network: Network

    def official_predictor(self, **rules: float) -> Any:
        """The official predictor of stills, told of feature maps that are not those of 1024 px."""
        with oracle.quiet():
            return fitted(SAM2ImagePredictor(self.official, **rules))

    def official_generator(self, **settings: object) -> Any:
        with oracle.quiet():
            generator = SAM2AutomaticMaskGenerator(self.official, **settings)
        fitted(generator.predictor)
        return generator

    def ours(self, **rules: Any) -> ImageSegmenter:
        components = pytorch.components(self.network, Pin("torch", "cpu", "fp32"))
        return ImageSegmenter(components, rules=MaskRules(**rules))


def fitted(predictor: Any) -> Any:
    size = predictor.model.image_size
    predictor._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]
    return predictor


@functools.lru_cache
def both(model: str, seed: int = 0) -> Both:
    variant, size = MODELS[model]
    if model == "nano":
        official = oracle.construct(variant, size)
        official.load_state_dict({name: x.float() for name, x in weights.read(hub.find("nano")).items()})
    else:
        official = oracle.build_official(variant, size, seed)
    network = Network(variant, size)
    weights.load_official(network, official.state_dict())
    return Both(official, network)


def texture(height: int, width: int, seed: int) -> Image:
    """A picture of waves and blobs."""
    waves = oracle.moving_texture(1, max(height, width), seed)[0, :, :height, :width]
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
    pixels = ((waves * std + mean) * 255).clamp(0, 255).byte()
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def differing(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Differing pixels as a share of the pixels in either mask."""
    assert a.shape == b.shape
    return float((a ^ b).sum() / max(1, (a | b).sum()))
