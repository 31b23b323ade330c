import numpy as np
import pytest
from pycocotools import mask as coco

from sam2track.errors import MaskletError
from sam2track.masks import rle


def blob(height, width, seed, density=0.5):
    return np.random.default_rng(seed).random((height, width)) < density


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (64, 48), (131, 257)])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_round_trip_and_agreement_with_pycocotools(size, density):
    mask = blob(*size, seed=3, density=density)
    encoded = rle.encode(mask)
    assert encoded["size"] == list(size)
    assert encoded["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    decoded = rle.decode(encoded)
    assert decoded.dtype == np.bool_
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, mask)


def test_encode_takes_a_strided_view():
    mask = blob(60, 80, seed=1)
    np.testing.assert_array_equal(rle.decode(rle.encode(mask[::2, ::-3])), mask[::2, ::-3])


@pytest.mark.parametrize("mask", [np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4), bool), np.zeros((0, 4), bool)])
def test_encode_refuses_what_is_not_a_mask(mask):
    with pytest.raises(ValueError, match=r"expected bool \[H, W\]"):
        rle.encode(mask)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "damaged"),
        ("0", "do not fill"),
        ("P3", "do not fill"),  # 96 of 100
        ("T31", "do not fill"),  # 101 of 100
        ("o", "damaged"),  # breaks off inside a number
        ("oooooooo0", "damaged"),  # more digits than any run
        ("T3\x00", "damaged"),
        ("T3é", "damaged"),
        ("T3 ", "damaged"),
        ("OT3", "do not fill"),  # a negative run
    ],
)
def test_decode_refuses_hostile_counts(counts, message):
    with pytest.raises(MaskletError, match=message):
        rle.decode({"size": [10, 10], "counts": counts})


def test_decode_survives_random_counts():
    """Whatever is accepted fills its mask exactly; everything else is a MaskletError."""
    random = np.random.default_rng(0)
    accepted = 0
    for _ in range(3000):
        counts = "".join(random.choice(list("01234567PQo"), random.integers(1, 6)))
        try:
            mask = rle.decode({"size": [2, 3], "counts": counts})
        except MaskletError:
            continue
        accepted += 1
        assert mask.shape == (2, 3)
    assert accepted > 0


@pytest.mark.parametrize("size", [None, [10], [10, 0], [-1, 10], ["10", 10], [2**40, 2**40], [10.0, 10], [True, 10]])
def test_decode_refuses_bad_sizes(size):
    with pytest.raises(MaskletError, match="RLE size"):
        rle.decode({"size": size, "counts": "T3"})


def test_decode_refuses_other_types_of_counts():
    with pytest.raises(MaskletError, match="counts are list"):
        rle.decode({"size": [10, 10], "counts": [40, 60]})
