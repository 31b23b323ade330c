"""Each component against the official modules: outputs within 1e-4 relative, in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network, Variant
from tests.parity import oracle

pytestmark = pytest.mark.parity

NARROW = Variant(
    embed=16, heads=2, stages=(2, 2, 3, 2), global_blocks=(5, 6), windows=(8, 4, 16, 8), background=14,
    width=64, memory_width=32, memory_layers=3, memory_hidden=96,
)  # fmt: skip
SAM_2 = Variant(
    embed=16, heads=1, stages=(1, 2, 3, 1), global_blocks=(4, 5), width=64, memory_width=64, memory_layers=2,
    memory_hidden=96, pointer_age=False, occlusion_memory=False,
)  # fmt: skip
MODELS = {  # name -> sizes, image size
    "nano at 256": (VARIANTS["nano"], 256),
    "nano at 320": (VARIANTS["nano"], 320),
    "tiny at 256": (VARIANTS["sam2.1-tiny"], 256),
    "narrow at 160": (NARROW, 160),
    "SAM 2 at 96": (SAM_2, 96),
}
TOLERANCE = 1e-4

Pair = tuple[Any, Network]


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest) -> Pair:
    variant, size = MODELS[request.param]
    predictor = oracle.construct(variant, size)
    oracle.draw(predictor, seed=3)
    network = Network(variant, size)
    weights.load_official(network, predictor.state_dict())
    return predictor, network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(ours: Tensor, official: Tensor) -> None:
    assert ours.shape == official.shape
    assert official.std() > 1e-3, "a constant output proves nothing"
    error = float((ours - official).norm() / official.norm())
    assert error < TOLERANCE


@torch.inference_mode()
def test_image_encoder(both: Pair) -> None:
    predictor, network = both
    image = oracle.moving_texture(1, network.sizes.image_size, seed=1)
    official = predictor.forward_image(image)["backbone_fpn"]
    ours = network.image_encoder(image)
    for mine, theirs in zip(ours[:3], official, strict=True):
        assert_close(mine, theirs)
    assert_close(ours.s16_alone, official[2] + predictor.no_mem_embed.reshape(1, -1, 1, 1))


@torch.inference_mode()
def test_prompt_encoder_points(both: Pair) -> None:
    predictor, network = both
    size = network.sizes.image_size
    xy = noise(5, 4, 2).sigmoid() * size
    label = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [2, 3, 1, 0], [-1, 0, 1, -1], [2, 3, 0, 0]])
    sparse, dense = predictor.sam_prompt_encoder((xy, label), None, None)
    ours = network.prompt_encoder(xy, label.float())
    assert_close(ours.sparse, sparse)
    assert_close(ours.dense, dense)


@torch.inference_mode()
def test_prompt_encoder_masks(both: Pair) -> None:
    """Of three objects one has earlier logits, one a mask prompt, one neither."""
    predictor, network = both
    size = network.sizes.image_size
    xy, label = torch.zeros(3, 1, 2), -torch.ones(3, 1)
    logits = noise(3, 1, size // 4, size // 4) * 10
    mask = (oracle.moving_texture(1, size, seed=2)[:, :1] > 0).float().expand(3, -1, -1, -1)
    ours = network.prompt_encoder(
        xy, label, logits, torch.tensor([1.0, 0, 0]), mask, torch.tensor([0.0, 1, 0])
    )  # fmt: skip
    encode = predictor.sam_prompt_encoder
    given = (logits[:1], predictor.mask_downsample(mask[1:2]), None)
    for row, prompt in enumerate(given):
        sparse, dense = encode((xy[:1], label[:1]), None, prompt)
        assert_close(ours.sparse[row : row + 1], sparse)
        assert_close(ours.dense[row : row + 1], dense)


@torch.inference_mode()
def test_memory_attention(both: Pair) -> None:
    """Two objects with different histories: the official one at a time, ours as one padded batch."""
    predictor, network = both
    variant, sizes = network.variant, network.sizes
    g, d, m = sizes.image_size // 16, variant.width, variant.memory_width
    histories = [  # frames with a prompt, frames with a tracked mask, of the 16 before frame 20
        ([2, 12], [5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19]),
        ([17], [18, 19]),
    ]
    now, s16 = 20, noise(1, d, g, g, seed=9)
    memories = [
        {t: (noise(1, m, g, g, seed=100 * i + t), noise(1, d, seed=50 + 100 * i + t)) for t in prompted + tracked}
        for i, (prompted, tracked) in enumerate(histories)
    ]
    official = torch.cat([_attend(predictor, s16, memory, *h) for memory, h in zip(memories, histories, strict=True)])

    read = [
        ([(0, t) for t in prompted] + [(now - t, t) for t in tracked if now - t <= 6], prompted + tracked)
        for prompted, tracked in histories
    ]
    n, k = (max(len(row[column]) for row in read) for column in (0, 1))
    tokens, slot = noise(2, n, g * g, m, seed=7), torch.ones(2, n, dtype=torch.long)  # padding is not zero
    pointer, age, valid = noise(2, k, d, seed=8), torch.zeros(2, k), torch.zeros(2, n + k, dtype=torch.bool)
    for i, (slots, frames) in enumerate(read):
        for column, (age_slot, t) in enumerate(slots):
            tokens[i, column] = memories[i][t][0].flatten(2)[0].T
            slot[i, column], valid[i, column] = age_slot, True
        for column, t in enumerate(frames):
            pointer[i, column], age[i, column], valid[i, n + column] = memories[i][t][1][0], (now - t) / 15, True
    assert_close(network.memory_attention(s16, tokens, slot, pointer, age, valid), official)
    alone = network.memory_attention(s16, tokens[:1], slot[:1], pointer[:1], age[:1], None)
    assert_close(alone, official[:1])


def _attend(
    predictor: Any, s16: Tensor, memory: dict[int, tuple[Tensor, Tensor]], prompted: list[int], tracked: list[int]
) -> Tensor:
    side = s16.shape[-1]
    code = predictor.memory_encoder.position_encoding(next(iter(memory.values()))[0])
    outputs = {
        t: {"maskmem_features": tokens, "maskmem_pos_enc": [code], "obj_ptr": pointer}
        for t, (tokens, pointer) in memory.items()
    }
    fused: Tensor = predictor._prepare_memory_conditioned_features(
        frame_idx=20,
        is_init_cond_frame=False,
        current_vision_feats=[s16.flatten(2).permute(2, 0, 1)],
        current_vision_pos_embeds=[predictor.image_encoder.neck.position_encoding(s16).flatten(2).permute(2, 0, 1)],
        feat_sizes=[(side, side)],
        output_dict={
            "cond_frame_outputs": {t: outputs[t] for t in prompted},
            "non_cond_frame_outputs": {t: outputs[t] for t in tracked},
        },
        num_frames=40,
    )
    return fused


@torch.inference_mode()
def test_mask_decoder(both: Pair) -> None:
    """All four masks with their IoU and pointers, of objects that the score calls visible and not."""
    predictor, network = both
    d, size = network.variant.width, network.sizes.image_size
    g, b = size // 16, 4
    features, dense, sparse = noise(b, d, g, g), noise(b, d, g, g, seed=1), noise(b, 3, d, seed=2) * 2
    s4, s8 = noise(1, d // 8, 4 * g, 4 * g, seed=3), noise(1, d // 4, 2 * g, 2 * g, seed=4)
    decoder = predictor.sam_mask_decoder
    bias = decoder.pred_obj_score_head.layers[-1].bias
    inputs = {
        "image_embeddings": features,
        "image_pe": predictor.sam_prompt_encoder.get_dense_pe(),
        "sparse_prompt_embeddings": sparse,
        "dense_prompt_embeddings": dense,
        "repeat_image": False,
        "high_res_features": [s4.expand(b, -1, -1, -1), s8.expand(b, -1, -1, -1)],
    }
    scores = decoder.predict_masks(**inputs)[3].flatten().sort().values
    shift = scores[1:3].mean()  # between two of the four, for rounding would decide a score of 0
    bias.sub_(shift)
    network.mask_decoder.score_head.layers[-1].bias.sub_(shift)
    masks, iou, tokens, score = decoder.predict_masks(**inputs)
    assert (score > 0).any()
    assert (score <= 0).any()
    pointer = torch.where(score[:, :, None] > 0, predictor.obj_ptr_proj(tokens), predictor.no_obj_ptr)
    ours = network.mask_decoder(features, s4, s8, sparse, dense)
    for mine, theirs in zip(ours, (masks, iou, pointer, score), strict=True):
        assert_close(mine, theirs)
    bias.add_(shift)
    network.mask_decoder.score_head.layers[-1].bias.add_(shift)


@torch.inference_mode()
def test_memory_encoder(both: Pair) -> None:
    """Visible and not, tracked and prompted, in one batch of ours."""
    predictor, network = both
    d, size = network.variant.width, network.sizes.image_size
    g = size // 16
    s16 = noise(1, d, g, g)
    logits = oracle.moving_texture(4, size, seed=5)[:, :1] * 3
    score, prompted = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    ours = network.memory_encoder(s16, logits, score, prompted)
    for row in range(4):
        official, _ = predictor._encode_new_memory(
            [s16.flatten(2).permute(2, 0, 1)],
            [(g, g)],
            logits[row : row + 1],
            score[row : row + 1],
            bool(prompted[row]),
        )
        assert_close(ours[row : row + 1], official.flatten(2).transpose(1, 2))
