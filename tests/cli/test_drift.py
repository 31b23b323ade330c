import json

import pytest


def test_drift_tells_masks_and_components(place, run):
    code, out, err = run("drift", "clip.mp4", "--point", "28,32", "--frames", "5", "--image-size", "64")
    assert code == 0, err
    assert "1            5    1.0000  1.0000 on frame 0  none" in out
    assert "image_encoder" in out
    assert "0.0e+00" in out


def test_drift_for_a_program(place, run):
    (place / "other.toml").write_text('model = "nano"\nimage_size = 96\n')
    code, out, _ = run("drift", "clip.mp4", "--point", "28,32", "--against", "other.toml", "--json", "--threshold", "1")
    report = json.loads(out)
    assert code == 0
    assert report["threshold"] == 1
    assert len(report["objects"]["1"]["iou"]) == 12
    assert report["objects"]["1"]["first_frame_below"] == 0
    assert 0.5 < report["objects"]["1"]["worst_iou"] < 1
    assert report["components"] == {}  # 64 px and 96 px: no component has the other's inputs
    assert report["placement"]["mask_decoder"] == "fake:cpu:fp32"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["clip.mp4"], 2, "no prompt: say what to track with --point"),
        (["clip.mp4", "--point", "28,32", "--against", "nowhere.toml"], 2, "config nowhere.toml cannot be read"),
        (["clip.mp4", "--point", "28,32@9", "--frames", "5"], 2, "a prompt is for frame 9, but tracking covers"),
        (["nowhere.mp4", "--point", "28,32"], 1, "nowhere.mp4"),
        (["clip.mp4", "--point", "28,32", "--threshold", "2"], 2, "--threshold"),
    ],
)
def test_drift_refuses(place, fails, flags, code, message):
    got, line = fails("drift", *flags)
    assert got == code
    assert message in line
