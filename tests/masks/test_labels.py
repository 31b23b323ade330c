import numpy as np
import pytest
from PIL import Image

from sam2track.errors import MaskletError, SinkError
from sam2track.masks.labels import PALETTE, merge, read_labels, split, write_labels

LABELS = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)


def test_a_label_map_is_a_palette_png_in_the_colours_of_davis(tmp_path):
    write_labels(tmp_path / "a.png", LABELS)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        assert (np.array(picture) == LABELS).all()
        colours = np.array(picture.convert("RGB"))
    assert colours[0].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]  # as DAVIS and PASCAL VOC have them
    assert colours[1].tolist() == [[128, 128, 0], [224, 224, 192], [0, 0, 0]]
    assert len(PALETTE) == 768
    assert (read_labels(tmp_path / "a.png") == LABELS).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_ids_above_255_make_it_16_bit(tmp_path):
    labels = np.array([[0, 300], [65535, 7]], np.uint16)
    write_labels(tmp_path / "a.png", labels)
    assert (read_labels(tmp_path / "a.png") == labels).all()


@pytest.mark.parametrize(("mode", "scale"), [("L", 1), ("1", 1), ("P", 1), ("I;16", 1)])
def test_pngs_of_other_writers_are_read_by_value(tmp_path, mode, scale):
    labels = np.array([[0, 1, 0], [1, 1, 0]], np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(labels.astype(bool)) if mode == "1" else Image.fromarray(labels)
    if mode == "P":
        picture.putpalette(bytes(range(6)))  # of two colours: stored with one bit a pixel
    picture.save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png").tolist() == (labels * scale).tolist()


def test_split_and_merge_are_inverse_where_nothing_overlaps():
    masks = split(LABELS)
    assert list(masks) == [1, 2, 3, 255]
    assert (merge(masks, LABELS.shape) == LABELS).all()
    assert merge({}, (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_where_masks_overlap_the_lowest_id_wins():
    full, left = np.ones((1, 4), bool), np.array([[True, True, False, False]])
    assert merge({2: full, 5: left}, (1, 4)).tolist() == [[2, 2, 2, 2]]
    assert merge({5: full, 2: left}, (1, 4)).tolist() == [[2, 2, 5, 5]]


@pytest.mark.parametrize("i", [0, -1, 65536])
def test_ids_without_a_place_are_refused(i):
    with pytest.raises(ValueError, match="1 to 65535"):
        merge({i: np.ones((1, 1), bool)}, (1, 1))


def damaged(data):
    middle = len(data) // 2
    return data[:middle] + bytes(8) + data[middle + 8 :]


def absurd(data):
    return data[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + data[24:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: data[:40], "damaged"),
        (damaged, "damaged"),
        (absurd, "2147483647x2147483647; expected"),
        (lambda data: b"", "not a PNG"),
        (lambda data: b"GIF89a" + data, "not a PNG"),
        (lambda data: data[:8] + bytes(30), "0x0"),
    ],
)
def test_bad_files_are_one_line(tmp_path, change, message):
    random = np.random.default_rng(0).integers(0, 9, (40, 40)).astype(np.uint8)
    write_labels(tmp_path / "a.png", random)
    path = tmp_path / "b.png"
    path.write_bytes(change((tmp_path / "a.png").read_bytes()))
    with pytest.raises(MaskletError, match=message) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_colour_and_missing_files_are_refused(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "rgb.png")
    with pytest.raises(MaskletError, match="in colour"):
        read_labels(tmp_path / "rgb.png")
    with pytest.raises(MaskletError, match="No such file"):
        read_labels(tmp_path / "none.png")
    with pytest.raises(SinkError, match="cannot be written"):
        write_labels(tmp_path / "none" / "a.png", LABELS)
