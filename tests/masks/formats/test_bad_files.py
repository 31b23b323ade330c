"""Files of others: other ways to say the same, and what no honest file says."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import sam2track as st
from sam2track.errors import ConfigError, MaskletError
from sam2track.masks.formats import files
from sam2track.masks.labels import write_labels
from tests.masks.formats.made import masklets, rectangle

CODE = {"size": [30, 40], "counts": coco_mask.encode(np.asfortranarray(rectangle(5, 5)))["counts"].decode()}
IMAGE = {"id": 7, "file_name": "b.jpg", "height": 30, "width": 40}


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    st.convert(path, tmp_path / "out.jsonl", size=(30, 40))
    return list(st.read_masklets(tmp_path / "out.jsonl"))


def coco(*annotations, images=(IMAGE,)):
    annotations = [{"id": number, "image_id": 7, **a} for number, a in enumerate(annotations, start=1)]
    return {"images": list(images), "annotations": annotations, "categories": []}


def ytvis(*segmentations, **video):
    return {"videos": [{"id": 1, "height": 30, "width": 40, "length": len(segmentations), **video}],
            "annotations": [{"id": 3, "video_id": 1, "segmentations": list(segmentations)}]}  # fmt: skip


def sav(rows, **change):
    return {"video_id": "v", "video_height": 30.0, "video_width": 40.0, "video_frame_count": 9.0, "masklet": rows,
            "masklet_id": [0], **change}  # fmt: skip


def test_coco_of_other_writers(tmp_path):
    """Images by name, runs that are not compressed, polygons, tracks as CVAT gives them."""
    runs = [5 * 30 + 5, *([8, 22] * 9), 8, 30 * 40 - 5 * 30 - 5 - 9 * 30 - 8]
    polygon = [[5, 5, 15, 5, 15, 13, 5, 13]]
    images = [{**IMAGE, "file_name": "c.jpg"}, {**IMAGE, "id": 8, "file_name": "a.jpg"}]
    content = coco(
        {"segmentation": {"size": [30, 40], "counts": runs}, "attributes": {"track_id": 4}},
        {"segmentation": polygon, "image_id": 8, "attributes": {"track_id": 4}},
        {"segmentation": CODE, "image_id": 8},
        images=images,
    )
    first, second = read(tmp_path, "a.json", content)
    assert list(first.objects) == [4, 3]  # image 8 comes first by name; an annotation without a track counts by its id
    assert (first.objects[3].mask == rectangle(5, 5)).all()
    assert (first.objects[4].mask == rectangle(5, 5)).all()  # COCO's painter takes corners of pixels
    assert (second.objects[4].mask == rectangle(5, 5)).all()
    assert not second.objects[3].visible


def test_coco_images_are_in_the_order_of_their_numbers(tmp_path):
    images = [{**IMAGE, "id": n, "file_name": f"clip/img{n}.jpg"} for n in (10, 1, 2)]
    shown = [{"segmentation": CODE, "image_id": n, "track_id": n} for n in (1, 2, 10)]
    results = read(tmp_path, "a.json", coco(*shown, images=images))
    assert [[i for i, seen in result.objects.items() if seen.visible] for result in results] == [[1], [2], [10]]


def test_youtube_vis_of_other_writers(tmp_path):
    results = read(tmp_path, "a.json", ytvis(None, CODE, None))
    assert [list(result.objects) for result in results] == [[], [3], [3]]
    assert (results[1].objects[3].mask == rectangle(5, 5)).all()
    assert not results[2].objects[3].visible


def test_mots_of_kitti_ids(tmp_path):
    (result,) = read(tmp_path, "a.txt", f"1 1007 1 30 40 {CODE['counts']}\n")
    assert list(result.objects) == [7]
    assert result.index == 0


def test_mots_of_several_classes_keeps_whole_ids(tmp_path):
    """A car and a pedestrian of the same number are two objects."""
    lines = [f"1 1001 1 30 40 {CODE['counts']}", f"1 2001 2 30 40 {CODE['counts']}"]
    (result,) = read(tmp_path, "a.txt", "\n".join(lines))
    assert list(result.objects) == [1001, 2001]


BAD = [
    ("a.json", coco({"segmentation": {"size": [30, 40], "counts": "0000"}}), "annotation 1: .*do not fill"),
    (
        "a.json",
        coco({"segmentation": {"size": [40, 30], "counts": CODE["counts"]}}),
        "mask is 30x40 but the frame 40x30",
    ),
    ("a.json", coco({"segmentation": {"size": [30, 40], "counts": [5, -5, 1200]}}), "do not fit"),
    ("a.json", coco({"segmentation": {"size": [30, 40], "counts": [1] * 3000}}), "3000 runs"),
    ("a.json", coco({"segmentation": {"size": [30, 40], "counts": [10**30]}}), "not a COCO JSON|do not fit"),
    ("a.json", coco({"segmentation": [[0, 0, 1e30, 0, 5, 5]]}), "lies outside"),
    ("a.json", coco({"segmentation": [[1, 2, 3, 4]]}), "4 numbers"),
    ("a.json", coco({"segmentation": "x"}), "not a COCO JSON"),
    ("a.json", coco({"segmentation": CODE, "image_id": 99}), "image 99, which is missing"),
    ("a.json", coco(images=[]), "has no images"),
    ("a.json", coco(images=[{**IMAGE, "width": 2**40}]), "not a COCO JSON: images.0.width"),
    ("a.json", coco(images=[{**IMAGE, "width": 2**15, "height": 2**15}]), None),
    ("a.json", coco(images=[IMAGE, {**IMAGE, "id": 8, "width": 41}]), "another size"),
    ("a.json", coco(images=[{**IMAGE, "frame_index": 1}, {**IMAGE, "id": 8, "frame_index": 1}]), "same frame_index"),
    ("a.json", '{"images": [' + "[" * 100_000, "not a COCO JSON"),
    ("a.json", '{"images": [], "annotations": ', "not a COCO JSON"),
    ("a.json", ytvis(CODE, length=2), "1 segmentations; expected one for each of 2"),
    ("a.json", ytvis(CODE, length=2**40), "not a YouTube-VIS JSON"),
    ("a.json", ytvis(CODE, frame_indices=[1, 2]), "do not fit length 1"),
    ("a.json", {**ytvis(CODE), "videos": []}, "0 videos"),
    ("a.json", sav([[CODE, CODE]]), "not one mask for each of 1"),
    ("a.json", sav([[CODE, CODE]], masklet_id=[2, 2]), "repeat or are negative"),
    ("a.json", sav([[{"size": [2, 2], "counts": "4"}]]), "masklet 0 on frame 0 has size"),
    ("a.json", sav([[CODE]], video_width=1e9), "not an SA-V JSON"),
    ("a.json", sav([[CODE]], video_width=float("nan")), "not an SA-V JSON"),
    ("a.json", sav([[CODE]], video_duration=0), "video_duration: .* greater than 0"),
    ("a.json", sav([[CODE]], video_duration=float("nan")), "video_duration: .* finite"),
    ("a.json", sav([[CODE]], video_duration=1e-320), "9 frames in .* seconds are not a video"),
    ("a.json", sav([[CODE]], video_duration=1e300), r"9 frames in 1e\+300 seconds are not a video"),
    ("a.txt", "1,1,3,4\n", "4 values"),
    ("a.txt", "1,-1,3,4,5,6,1,-1,-1,-1\n", "tracks, not detections"),
    ("a.txt", "0,1,3,4,5,6\n", "frames from 1"),
    ("a.txt", "1,1,nan,4,5,6\n", "expected numbers"),
    ("a.txt", "1,1,1e300,4,5,6\n", "expected numbers"),
    ("a.txt", "2,1,3,4,5,6\n1,1,3,4,5,6\n", "goes back from frame 2 to 1"),
    ("a.txt", "1,7,1,1,5,5\n1,7,9,9,5,5\n", "object 7 twice on frame 1"),
    ("a.txt", "1 1 1 30 40\n", "5 values"),
    ("a.txt", f"2 2007 2 30 40 {CODE['counts']}\n" * 2, "object 7 twice on frame 2"),
    ("a.txt", "1 1 1 99999999 99999999 00\n", "expected 1 to"),
    ("a.txt", f"1 1 1 30 40 {CODE['counts']}\n2 1 1 31 40 {CODE['counts']}\n", "another size"),
    ("a.txt", "1 1 1 30 40 zzzz\n", "line 1: RLE"),
    ("a.txt", "", "is empty"),
    ("a.txt", "1,1,3,4,5,6\n" + "é" * 10, "line 2 is too long or no plain text"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=range(len(BAD)))
def test_bad_files_are_one_line(tmp_path, name, content, message):
    if message is None:  # large, but nothing is made of it before a mask is read
        content["annotations"] = [{"id": 1, "image_id": 7, "segmentation": CODE}]
        message = "mask is 40x30 but the frame 32768x32768"
    with pytest.raises(MaskletError, match=message) as caught:
        read(tmp_path, name, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value) or "masklet 0" in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_files_that_are_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    monkeypatch.setattr(files, "MAX_LINE", 100)
    with pytest.raises(MaskletError, match="larger than 100 bytes"):
        read(tmp_path, "a.json", coco({"segmentation": CODE}))
    with pytest.raises(MaskletError, match="line 1 is too long"):
        read(tmp_path, "a.txt", f"1 1 1 30 40 {CODE['counts'] * 20}\n")


def test_folders_that_are_no_davis(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    with pytest.raises(MaskletError, match="holds no PNG"):
        st.convert(folder, tmp_path / "a.jsonl")
    write_labels(folder / "00000.png", np.ones((3, 4), np.uint8))
    write_labels(folder / "00001.png", np.ones((4, 4), np.uint8))
    with pytest.raises(MaskletError, match="is 4x4, not 4x3"):
        st.convert(folder, tmp_path / "a.jsonl")
    write_labels(folder / "first.png", np.ones((3, 4), np.uint8))
    with pytest.raises(MaskletError, match="not named after a frame"):
        st.convert(folder, tmp_path / "a.jsonl")


def test_formats_that_nothing_tells(tmp_path):
    masklets(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="does not tell its format"):
        st.convert(tmp_path / "a.jsonl", tmp_path / "a.csv")
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(ConfigError, match="of no known format; say which: --from"):
        st.convert(tmp_path / "b.json", tmp_path / "c.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(st.SinkError, match="exists"):
        st.convert(tmp_path / "a.jsonl", tmp_path / "folder")
