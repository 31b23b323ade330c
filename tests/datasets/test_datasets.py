import numpy as np
import pytest
from PIL import Image

import sam2track as st
from sam2track.errors import ConfigError, MaskletError, SourceError
from tests.datasets import made


def names(clips):
    return [clip.name for clip in clips]


def test_davis(tmp_path):
    root = made.davis(tmp_path)
    (clip,) = st.open_dataset(root)
    assert clip.name == "two"  # the validation split, unless another is asked for
    assert clip.annotated == tuple(range(9))
    assert clip.frame_count == 9
    assert clip.frame_name(3) == "00003"
    assert not clip.overlapping
    assert (clip.masks(3)[1] == made.square(3)).all()
    assert clip.masks(5) == {}
    with st.open_source(clip.video) as source:
        assert sum(1 for _ in source) == 9
    assert names(st.open_dataset(root, split="train")) == ["one"]
    assert names(st.open_dataset(root, split="2017/train")) == ["one"]


def test_davis_2016_lists_name_pictures(tmp_path):
    root = made.davis(tmp_path)
    line = "/JPEGImages/480p/{0}/0000{1}.jpg /Annotations/480p/{0}/0000{1}.png\n"
    (root / "ImageSets" / "480p").mkdir()
    (root / "ImageSets" / "480p" / "val.txt").write_text("".join(line.format("one", i) for i in range(3)))
    assert names(st.open_dataset(root, split="480p/val")) == ["one"]


def test_a_folder_without_lists_is_taken_whole(tmp_path):
    root = made.davis(tmp_path, resolution="240p")
    for path in (root / "ImageSets").rglob("*.txt"):
        path.unlink()
    assert names(st.open_dataset(root)) == ["one", "two"]
    assert names(st.open_dataset(root, sequences=["two", "two"])) == ["two"]


def test_480p_is_preferred(tmp_path):
    root = made.davis(tmp_path)
    for part in ("JPEGImages", "Annotations"):
        (root / part / "1080p").mkdir()
    assert st.open_dataset(root)[0].video.parent.name == "480p"


def test_youtube_vos(tmp_path):
    (clip,) = st.open_dataset(made.ytvos(tmp_path))
    assert clip.annotated == (0, 2, 4, 6, 8)
    assert {i: list(clip.masks(i)) for i in clip.annotated} == {0: [3], 2: [3], 4: [3, 7], 6: [3, 7], 8: [3, 7]}
    assert (clip.masks(6)[7] == made.late(6)).all()
    assert names(st.open_dataset(tmp_path, split="valid", layout="ytvos")) == ["clip"]


@pytest.mark.parametrize(("make", "ids"), [(made.sav_folders, [0, 1]), (made.sav_json, [4, 9])])
def test_sav(tmp_path, make, ids):
    (clip,) = st.open_dataset(make(tmp_path / "sav"))
    assert clip.annotated == (0, 4, 8, 12)
    assert clip.frame_count == 13
    assert clip.overlapping
    assert clip.frame_name(4) == "00004"
    masks = clip.masks(4)
    assert list(masks) == ids
    assert (masks[ids[0]] == made.square(4)).all()
    assert (masks[ids[1]] == made.overlapping(4)).all()
    with st.open_source(clip.video) as source:
        assert sum(1 for _ in source) == 13


def test_sav_splits(tmp_path):
    root = made.sav_folders(tmp_path / "folders")
    assert names(st.open_dataset(root, split="val", layout="sav")) == ["sav_000001"]
    with pytest.raises(ConfigError, match=r"'test' is not in .*; it has: val"):
        st.open_dataset(root, split="test")
    with pytest.raises(ConfigError, match="leave --split out"):
        st.open_dataset(made.sav_json(tmp_path / "json"), split="val")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "vall"}, ConfigError, "it has: 2017/train, 2017/val"),
        ({"layout": "davs"}, ConfigError, "did you mean 'davis'"),
        ({"sequences": ["tow"]}, ConfigError, "did you mean 'two'"),
        ({"layout": "sav"}, SourceError, "_manual.json"),
    ],
)
def test_wrong_options_name_what_there_is(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        st.open_dataset(made.davis(tmp_path), **options)


@pytest.mark.parametrize("name", ["../../etc", "..", ".", "a\\b", "\x00", "-" * 300, "./one/../x"])
def test_lists_cannot_lead_out_of_the_dataset(tmp_path, name):
    root = made.davis(tmp_path / "root")
    (root / "ImageSets" / "2017" / "val.txt").write_bytes(name.encode() + b"\n")
    with pytest.raises(SourceError, match=r"expected names of folders|no pictures or no masks"):
        st.open_dataset(root)


def test_broken_datasets(tmp_path):
    with pytest.raises(SourceError, match="not a folder"):
        st.open_dataset(tmp_path / "none")
    with pytest.raises(SourceError, match="expected a DAVIS or YouTube-VOS folder"):
        st.open_dataset(tmp_path)
    root = made.davis(tmp_path / "davis")
    (root / "ImageSets" / "2017" / "val.txt").write_text("three\n")
    with pytest.raises(SourceError, match="no masks of sequence 'three'"):
        st.open_dataset(root)
    (root / "ImageSets" / "2017" / "val.txt").write_bytes(b"a\n" * 2**20)
    with pytest.raises(SourceError, match="larger than"):
        st.open_dataset(root)


def test_broken_annotations(tmp_path):
    truth = made.davis(tmp_path) / "Annotations" / "480p" / "two"
    Image.new("RGB", (3, 3)).save(truth / "00002.png")
    (clip,) = st.open_dataset(tmp_path)
    with pytest.raises(MaskletError, match=r"00002\.png is in colour"):
        clip.masks(2)
    (truth / "00077.png").write_bytes((truth / "00001.png").read_bytes())
    with pytest.raises(SourceError, match=r"00077\.png, but .* no picture"):
        _ = st.open_dataset(tmp_path)[0].annotated
    for path in truth.iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="holds no PNG"):
        _ = st.open_dataset(tmp_path)[0].annotated


def test_broken_sav(tmp_path):
    root = made.sav_json(tmp_path)
    path = root / "sav_000002_manual.json"
    text = path.read_text()
    path.write_text(text.replace('"size": [64, 96]', '"size": [96, 64]', 1))
    with pytest.raises(MaskletError, match="masklet 4 on frame 0 has size"):
        st.open_dataset(root)[0].masks(0)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(MaskletError, match="is not an SA-V JSON"):
        _ = st.open_dataset(root)[0].annotated
    (root / "sav_000002.mp4").unlink()
    with pytest.raises(SourceError, match=r"has no sav_000002\.mp4"):
        st.open_dataset(root)


def test_masks_of_a_frame_are_bool(tmp_path):
    for make in (made.davis, made.ytvos, made.sav_folders, made.sav_json):
        root = tmp_path / make.__name__
        root.mkdir()
        (clip,) = st.open_dataset(make(root))
        for mask in clip.masks(0).values():
            assert mask.dtype == np.bool_
            assert mask.shape == made.SIZE
