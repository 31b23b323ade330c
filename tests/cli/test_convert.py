import numpy as np
import pytest

import sam2track as st
from tests.masks.formats.made import masklets


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    masklets(tmp_path / "clip.jsonl")
    return tmp_path


def test_convert_there_and_back(place, run):
    code, out, err = run("convert", "clip.jsonl", "clip_ytvis.json")
    assert (code, out) == (0, "")
    assert "not visible" in err
    assert run("convert", "clip_ytvis.json", "back.jsonl") == (0, "", "")
    for before, after in zip(st.read_masklets("clip.jsonl"), st.read_masklets("back.jsonl"), strict=True):
        assert all((before.objects[i].mask == after.objects[i].mask).all() for i in before.objects)


def test_convert_mot_needs_a_size(place, run, fails):
    assert run("convert", "clip.jsonl", "clip.txt", "--quiet") == (0, "", "")
    code, line = fails("convert", "clip.txt", "back.jsonl")
    assert (code, "--size WIDTHxHEIGHT" in line) == (1, True)
    code, _, err = run("convert", "clip.txt", "back.jsonl", "--size", "40x30")
    assert (code, "filled boxes" in err) == (0, True)
    first = next(iter(st.read_masklets("back.jsonl")))
    assert np.count_nonzero(first.objects[1].mask) == 10 * 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("clip.jsonl", "clip.jsonl"), 2, "exists"),
        (("clip.jsonl", "clip.jsonl", "--force"), 1, "is the source too"),
        (("clip.jsonl", "a.xyz"), 2, "--to masklets, sav"),
        (("clip.jsonl", "a.json", "--to", "cocoa"), 2, "did you mean 'coco'"),
        (("clip.jsonl", "a.json", "--from", "sav"), 1, "clip.jsonl is not an SA-V JSON"),
        (("none.jsonl", "a.json"), 1, "none.jsonl cannot be read"),
        (("clip.jsonl", "none/a.json"), 1, "none/a.json cannot be written"),
        (("clip.jsonl", "a.txt", "--size", "big"), 2, "--size 'big'"),
    ],
)
def test_convert_says_what_is_wrong(place, fails, arguments, code, message):
    got, line = fails("convert", *arguments)
    assert got == code
    assert message in line
    assert {path.name for path in place.iterdir()} == {"clip.jsonl"}
