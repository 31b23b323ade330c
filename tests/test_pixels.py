import numpy as np
import pytest
import torch

from sam2track import pixels
from sam2track.data import Prompt


def test_image_is_resized_and_normalised():
    image = np.zeros((90, 160, 3), np.uint8)
    image[:, 80:] = (255, 128, 0)
    tensor = pixels.to_tensor(image, 64)
    assert tensor.shape == (1, 3, 64, 64)
    assert tensor[0, :, 5, 60].tolist() == pytest.approx(
        [(v / 255 - m) / s for v, m, s in zip((255, 128, 0), pixels.MEAN, pixels.STD, strict=True)], abs=1e-5
    )
    assert tensor[0, 0, 5, 3].item() == pytest.approx(-pixels.MEAN[0] / pixels.STD[0], abs=1e-5)


def test_read_only_pictures_and_masks_are_fine():
    image, mask = np.full((40, 40, 3), 9, np.uint8), np.ones((40, 40), bool)
    image.flags.writeable = mask.flags.writeable = False
    assert pixels.to_tensor(image, 64).shape == (1, 3, 64, 64)
    assert pixels.to_mask_prompt(mask, 64).all()


def test_a_mask_is_resized_and_cut_at_one_half():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:6] = True
    larger = pixels.resize_mask(mask, (8, 12))
    assert larger.dtype == bool
    assert larger.nonzero()[0].min() == 2
    assert larger[2:6, 4:].sum() == larger.sum() == 4 * 8
    assert (pixels.resize_mask(larger, (4, 6)) == mask).all()


def test_a_box_leads_its_points_in_model_pixels():
    points, labels = pixels.to_points(Prompt(points=[(80, 45)], labels=[0], box=(0, 9, 160, 90)), 90, 160, 64)
    assert points == [(0, 6.4), (64, 64), (32, 32)]
    assert labels == [2, 3, 0]


def test_holes_up_to_the_area_are_filled_and_specks_left():
    logits = torch.full((2, 1, 16, 16), -3.0)
    logits[:, :, 2:14, 2:14] = 5.0
    logits[0, 0, 4:6, 4:8] = -2.0  # 8 px
    logits[0, 0, 9, 5:14:1] = -2.0  # reaches the edge of the square: background
    logits[1, 0, 4:7, 4:7] = -2.0  # 9 px
    logits[1, 0, 0, 0] = 2.0  # a speck
    filled = pixels.fill_holes(logits, 8)
    assert (filled[0, 0, 4:6, 4:8] == pixels.HOLE_LOGIT).all()
    assert (filled[0, 0, 9, 5:14] == -2).all()
    assert torch.equal(filled[1], logits[1])
    assert torch.equal(pixels.fill_holes(logits, 0), logits)


def test_masks_are_cut_at_zero_at_frame_size():
    logits = torch.full((1, 1, 8, 8), -1.0)
    logits[..., 4:] = 1.0
    (mask,) = pixels.to_masks(logits, 20, 32)
    assert mask.shape == (20, 32)
    assert mask.dtype == bool
    assert not mask[:, :16].any()
    assert mask[:, 16:].all()


def test_mask_prompt_becomes_logits_of_ten():
    mask = np.zeros((30, 50), bool)
    mask[:, :25] = True
    prompt = pixels.to_mask_prompt(mask, 64)
    assert prompt.shape == (1, 1, 64, 64)
    assert set(prompt.unique().tolist()) == {0.0, 1.0}
    logits = pixels.mask_to_logits(prompt)
    assert logits.shape == (1, 1, 16, 16)
    assert logits[0, 0, 8, 2].item() == pytest.approx(10)
    assert logits[0, 0, 8, 13].item() == pytest.approx(-10)
