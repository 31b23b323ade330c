"""What we write, as readers that are not ours see it."""

import configparser
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import sam2track as st
from tests.masks.formats.made import FRAMES, SIZE, frames, masklets

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

MADE = {result.index: result for result in frames()}
SEEN = [(r.index, i, seen) for r in MADE.values() for i, seen in r.objects.items() if seen.visible]


@pytest.fixture
def write(tmp_path):
    def write(name, *, overlap=True):
        st.convert(masklets(tmp_path / "a.jsonl", overlap=overlap), tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.json", "a_cvat.json"])
def test_pycocotools_reads_coco(write, name, capsys):
    dataset = COCO(write(name))
    assert len(dataset.imgs) == FRAMES - 1
    assert len(dataset.anns) == len(SEEN)
    for index, i, seen in SEEN:
        (image,) = (image for image in dataset.imgs.values() if image["frame_index"] == index)
        ids = dataset.getAnnIds(imgIds=image["id"])
        (annotation,) = (a for a in dataset.loadAnns(ids) if a["track_id"] == i)
        assert (dataset.annToMask(annotation).astype(bool) == seen.mask).all()
        assert annotation["area"] == seen.mask.sum()
        assert annotation["bbox"] == coco_mask.toBbox(dataset.annToRLE(annotation)).tolist()
        assert annotation["category_id"] in dataset.cats
        assert 0 not in (annotation["id"], annotation["category_id"], image["id"])


def test_cvat_finds_frames_and_labels_by_name(write):
    content = json.loads(write("a_cvat.json").read_text())
    assert content["images"][3]["file_name"] == "frame_000003"
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert {a["track_id"]: names[a["category_id"]] for a in content["annotations"]} == {1: "object 1", 12: "object 12"}


def test_pycocotools_reads_the_masks_of_youtube_vis(write):
    content = json.loads(write("a_ytvis.json").read_text())
    (video,) = content["videos"]
    assert video["length"] == len(video["file_names"]) == FRAMES - 1
    for annotation in content["annotations"]:
        assert len(annotation["segmentations"]) == len(annotation["bboxes"]) == video["length"]
        for index, code, box in zip(
            video["frame_indices"], annotation["segmentations"], annotation["bboxes"], strict=True
        ):
            truth = MADE[index].objects.get(annotation["track_id"])
            assert (code is None) == (truth is None or not truth.visible)
            if code is not None:
                compressed = coco_mask.frPyObjects(code, *SIZE)
                assert (coco_mask.decode(compressed).astype(bool) == truth.mask).all()
                assert coco_mask.toBbox(compressed).tolist() == box


def test_trackeval_reads_youtube_vis(write, tmp_path):
    from trackeval.datasets import YouTubeVIS

    content = json.loads(write("a_ytvis.json").read_text())
    truth, results = (tmp_path / kind / "youtube_vis_train" for kind in ("gt", "trackers"))
    truth.mkdir(parents=True)
    (truth / "gt.json").write_text(json.dumps(content))
    (results / "ours" / "data").mkdir(parents=True)
    (results / "ours" / "data" / "r.json").write_text("[]")
    reader = YouTubeVIS({
        "GT_FOLDER": f"{tmp_path}/gt/", "TRACKERS_FOLDER": f"{tmp_path}/trackers/", "SPLIT_TO_EVAL": "train",
        "PRINT_CONFIG": False, "TRACKERS_TO_EVAL": ["ours"],
    })  # fmt: skip
    raw = reader._load_raw_file("ours", "a_ytvis", is_gt=True)
    assert [len(ids) for ids in raw["gt_ids"]] == [
        sum(i in result.objects and result.objects[i].visible for i in (1, 12)) for result in MADE.values()
    ]


def mot_challenge(tmp_path, reader, path):
    """``path`` as ground truth and as a tracker's result, read by one of TrackEval's datasets."""
    sequence = tmp_path / "gt" / "dog"
    (sequence / "gt").mkdir(parents=True)
    (tmp_path / "trackers" / "ours" / "data").mkdir(parents=True)
    ini = configparser.ConfigParser()
    ini["Sequence"] = {"name": "dog", "seqLength": str(FRAMES)}
    with (sequence / "seqinfo.ini").open("w") as file:
        ini.write(file)
    (sequence / "gt" / "gt.txt").write_text(path.read_text())
    (tmp_path / "trackers" / "ours" / "data" / "dog.txt").write_text(path.read_text())
    (tmp_path / "seqmap.txt").write_text("name\ndog\n")
    return reader({
        "GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "SKIP_SPLIT_FOL": True,
        "SEQMAP_FILE": str(tmp_path / "seqmap.txt"), "TRACKERS_TO_EVAL": ["ours"], "PRINT_CONFIG": False,
    })  # fmt: skip


def test_trackeval_reads_mot(write, tmp_path):
    from trackeval.datasets import MotChallenge2DBox

    raw = mot_challenge(tmp_path, MotChallenge2DBox, write("a.txt"))._load_raw_file("ours", "dog", is_gt=False)
    for index in range(FRAMES):
        objects = MADE[index].objects if index in MADE else {}
        expected = {i: seen for i, seen in objects.items() if seen.visible}
        assert raw["tracker_ids"][index].tolist() == list(expected)
        for place, seen in enumerate(expected.values()):
            x0, y0, x1, y1 = seen.box
            assert raw["tracker_dets"][index][place].tolist() == [x0 + 1, y0 + 1, x1 - x0, y1 - y0]
            assert raw["tracker_confidences"][index][place] == pytest.approx(seen.score, abs=1e-6)


def test_trackeval_reads_mots(write, tmp_path):
    from trackeval.datasets import MOTSChallenge

    raw = mot_challenge(tmp_path, MOTSChallenge, write("a_mots.txt"))._load_raw_file("ours", "dog", is_gt=False)
    for index in range(FRAMES):
        objects = MADE[index].objects if index in MADE else {}
        expected = {2000 + i: seen.mask for i, seen in objects.items() if seen.visible}
        assert raw["tracker_ids"][index].tolist() == list(expected)
        assert raw["tracker_classes"][index].tolist() == [2] * len(expected)
        masks = [coco_mask.decode(code).astype(bool) for code in raw["tracker_dets"][index]]
        taken = np.zeros(SIZE, bool)
        for mask, truth in zip(masks, expected.values(), strict=True):
            assert (mask == truth & ~taken).all()
            taken |= truth


def test_pillow_reads_davis(write):
    folder = write("a", overlap=False)
    for result in frames(overlap=False):
        with Image.open(folder / f"{result.index:05d}.png") as picture:
            assert picture.mode == "P"
            labels = np.array(picture)
        for i, seen in result.objects.items():
            assert ((labels == i) == seen.mask).all()
        assert set(np.unique(labels)) <= {0, 1, 12}


def test_sav_has_the_keys_of_the_dataset(write):
    content = json.loads(write("dog_manual.json").read_text())
    assert content["video_id"] == "dog"
    assert (content["video_height"], content["video_width"], content["video_frame_count"]) == (30.0, 40.0, 10.0)
    assert content["masklet_id"] == [1, 12]
    assert [len(row) for row in content["masklet"]] == [2, 2, 2]
    for entry, row in enumerate(content["masklet"]):
        for i, code in zip(content["masklet_id"], row, strict=True):
            truth = MADE[4 * entry].objects.get(i)
            expected = np.zeros(SIZE, bool) if truth is None else truth.mask
            assert (coco_mask.decode(code).astype(bool) == expected).all()
    assert content["masklet_first_appeared_frame"] == [0.0, 4.0]
    assert content["masklet_visibility_changes"] == [2, 0]  # object 1: seen, hidden on frame 4, seen
    assert content["masklet_size_abs"] == [80.0, 80.0]
    assert content["masklet_size_rel"] == [80 / 1200] * 2
    assert content["masklet_size_bucket"] == ["small", "small"]
    assert content["masklet_num"] == len(content["masklet_type"]) == 2
