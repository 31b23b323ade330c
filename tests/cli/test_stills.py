import json

import numpy as np
import pytest
from PIL import Image as Pil

import sam2track as st
from sam2track.masks import rle
from sam2track.video.picture import read_picture
from tests.cli.outputs import files


@pytest.fixture
def photo(place):
    image = np.full((64, 96, 3), 20, np.uint8)
    image[16:40, 24:60] = 250
    Pil.fromarray(image).save("photo.png")
    (place / "clip.mp4").unlink()
    return place


def test_segment_draws_the_photo(photo, run):
    code, out, err = run("segment", "photo.png", "--point", "40,30")
    assert (code, err) == (0, "")
    assert "object 1:" in out
    assert "score 0.50" in out
    assert files(photo) == {"photo.png", "photo_overlay.png"}
    assert (read_picture("photo_overlay.png") != read_picture("photo.png")).any()


def test_segment_writes_masks(photo, run):
    run("segment", "photo.png", "--point", "40,30", "-o", "mask.png", "-q")
    mask = np.asarray(Pil.open("mask.png"))
    assert set(np.unique(mask)) == {0, 255}
    assert mask[28, 40] == 255
    run("segment", "photo.png", "--point", "40,30", "--box", "2:20,10,70,50", "-o", "each.png", "-q")
    run("segment", "photo.png", "--point", "40,30", "--multimask", "-o", "three.png", "-q")
    assert files(photo) == {
        "photo.png", "mask.png", "each_1.png", "each_2.png", "three_1_1.png", "three_1_2.png", "three_1_3.png"
    }  # fmt: skip


def test_segment_reports_in_json(photo, run):
    code, out, _ = run("segment", "photo.png", "--mask", "photo.png", "--multimask", "--json", "-o", "out.json")
    assert code == 0
    report = json.loads(out)
    assert (report["width"], report["height"], report["model"]) == (96, 64, "nano")
    records = report["objects"]["1"]
    assert [record["predicted_iou"] for record in records] == pytest.approx([0.9, 0.8, 0.7])
    assert rle.decode(records[0]["segmentation"])[28, 40]
    assert report["outputs"] == ["out.json"]
    assert json.loads((photo / "out.json").read_text())["objects"] == report["objects"]


def test_discover_writes_records_and_a_picture(photo, run):
    code, out, _ = run("discover", "photo.png", "--points-per-side", "4", "--min-stability", "0.3")
    assert code == 0
    assert "1 masks in photo.png" in out
    assert files(photo) == {"photo.png", "photo_masks.json", "photo_overlay.png"}
    (record,) = json.loads((photo / "photo_masks.json").read_text())["masks"]
    assert rle.decode(record["segmentation"]).sum() == record["area"] > 500


def test_discover_says_how_to_find_more(photo, run):
    _, out, _ = run("discover", "photo.png", "--points-per-side", "2", "--min-iou", "0.99")
    assert "no mask passed; lower --min-iou" in out
    _, out, _ = run("discover", "photo.png", "--points-per-side", "2", "--min-iou", "0.99", "--json")
    assert json.loads(out)["masks"] == []


def test_track_discovers(place, run):
    code, out, _ = run(
        "track", "clip.mp4", "--discover", "--every", "4", "--min-stability", "0.2", "--points-per-side", "8"
    )
    assert code == 0
    assert "object 1: visible on 9 frames" in out
    assert [list(result.objects) for result in st.read_masklets("clip.jsonl")] == [[1]] * 12


def test_track_says_that_discovery_found_no_room(place, run):
    flags = ("--point", "28,32", "--min-stability", "0.2", "--points-per-side", "8", "--set", "tracking.max_objects=1")
    said = "discovery: no room for more than 1 objects; --set tracking.max_objects=COUNT makes more"
    assert said in run("track", "clip.mp4", "--discover", *flags)[2].splitlines()
    assert run("track", "clip.mp4", "--discover", *flags, "--force", "--quiet")[2] == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("segment photo.png", "no prompt: say what to segment with --point"),
        ("segment photo.png --point 4,4@3", "a prompt is for frame 3, but a photo has no frames"),
        ("segment photo.png --point 400,4", "lies outside the 96x64 frame"),
        ("segment photo.png --point 4,4 -o photo.png", "photo.png is an input"),
        ("segment photo.png --point 4,4 -o mask.gif", "mask.gif is no picture's name"),
        ("segment photo.png --point 4,4 --overlay a.json", "a.json is no picture's name"),
        ("segment photo.png --point 4,4 --overlay a.png -o a.png", "give two names"),
        ("segment photo.png --point 4,4 --max-hole-area -1", "max-hole-area"),
        ("discover photo.png -o masks.png", "masks.png does not end in .json"),
        ("discover photo.png --overlay masks", "masks is no picture's name"),
        ("discover photo.png --points-per-side 0", "points-per-side"),
        ("track photo.png --every 3 --point 4,4", "are of --discover; add it"),
    ],
)
def test_wrong_use_is_named(photo, fails, line, message):
    code, said = fails(*line.split())
    assert code == 2
    assert message in said
    assert files(photo) == {"photo.png"}


@pytest.mark.parametrize(
    "line",
    [
        "segment photo.png --mask mask.png -o mask.png",
        "segment photo.png --mask mask.png --overlay mask.png",
        "segment photo.png --point 4,4 --weights w.json -o w.json",
        "discover photo.png --weights w.json -o w.json",
    ],
)
def test_no_input_is_overwritten(photo, fails, line):
    (photo / "mask.png").write_bytes((photo / "photo.png").read_bytes())
    (photo / "w.json").write_text("weights")
    name = line.split()[-1]
    before = (photo / name).read_bytes()
    assert fails(*line.split(), "--force") == (2, f"{name} is an input; give the output another name")
    assert (photo / name).read_bytes() == before


def test_a_photo_that_cannot_be_read(photo, fails):
    assert fails("segment", "nope.jpg", "--point", "4,4") == (
        1, "picture nope.jpg cannot be read: No such file or directory"
    )  # fmt: skip
    (photo / "text.png").write_text("text")
    code, said = fails("discover", "text.png")
    assert code == 1
    assert "text.png is no picture FFmpeg can read" in said
