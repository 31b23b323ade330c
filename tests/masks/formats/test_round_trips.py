"""There and back: what each format keeps, and what it says that it does not."""

import os
import sys
from fractions import Fraction

import numpy as np
import pytest

import sam2track as st
from sam2track.masks.masklets import MaskletReader
from tests.masks.formats.made import FRAMES, RATE, frames, masklets


def there_and_back(tmp_path, name, *, overlap=True, **options):
    lost = st.convert(masklets(tmp_path / "a.jsonl", overlap=overlap), tmp_path / name)
    st.convert(tmp_path / name, tmp_path / "b.jsonl", **options)
    return lost, st.read_masklets(tmp_path / "b.jsonl")


def same_masks(results, expected):
    """Whether results have the same objects, masks and visibility as the made ones of their frames."""
    expected = {result.index: result for result in expected}
    for result in results:
        truth = expected[result.index].objects
        assert sorted(result.objects) == sorted(truth)
        for i, seen in result.objects.items():
            assert (seen.mask == truth[i].mask).all(), (result.index, i)
            assert (seen.visible, seen.box) == (truth[i].visible, truth[i].box)
    return True


@pytest.mark.parametrize("name", ["a.json", "a_cvat.json", "a_ytvis.json", "again.jsonl"])
def test_json_of_coco_and_youtube_vis_keeps_everything(tmp_path, name):
    _, back = there_and_back(tmp_path, name)
    results = list(back)
    assert [result.index for result in results] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert same_masks(results, frames())
    assert [result.time for result in results] == [result.index / RATE for result in results]
    assert results[3].objects[1].score == 0.9 - 3 / 100
    header = back.header
    assert (header.source, header.model, header.rate) == ("dog.mp4", "nano", RATE)


def test_sav_keeps_every_fourth_frame(tmp_path):
    lost, back = there_and_back(tmp_path, "dog_manual.json")
    assert "SA-V holds every 4th frame: 3 of 9 were written" in lost
    results = list(back)
    assert [result.index for result in results] == [0, 4, 8]
    assert same_masks(results, frames())
    assert back.header.rate == RATE
    again = st.convert(tmp_path / "b.jsonl", tmp_path / "again_manual.json")
    first, second = ((tmp_path / name).read_text() for name in ("dog_manual.json", "again_manual.json"))
    assert first.split("video_id")[0] == second.split("video_id")[0]
    assert not any("were written" in line for line in again)


def test_davis_keeps_masks_that_do_not_overlap(tmp_path):
    lost, back = there_and_back(tmp_path, "a", overlap=False)
    assert lost == ["a palette PNG has no scores and no times"]
    assert same_masks(back, frames(overlap=False))
    assert len(list((tmp_path / "a").iterdir())) == FRAMES - 1


@pytest.mark.parametrize("name", ["a", "a_mots.txt"])
def test_where_objects_overlap_the_lowest_id_is_kept_and_it_is_said(tmp_path, name):
    lost, back = there_and_back(tmp_path, name)
    both = {r.index: r.objects[1].mask & r.objects[12].mask for r in frames() if 12 in r.objects}
    pixels = sum(int(mask.sum()) for mask in both.values())
    assert pixels > 0
    assert f"on {pixels} pixels" in lost[-1]
    assert "lowest id was kept" in lost[-1]
    made = {r.index: r for r in frames()}
    for result in back:
        assert (result.objects[1].mask == made[result.index].objects[1].mask).all()
        if 12 in result.objects:
            assert (result.objects[12].mask == made[result.index].objects[12].mask & ~both[result.index]).all()


def test_mots_keeps_masks_that_do_not_overlap(tmp_path):
    lost, back = there_and_back(tmp_path, "a_mots.txt", overlap=False)
    assert len(lost) == 1
    assert same_masks(back, frames(overlap=False))


def test_mot_keeps_boxes(tmp_path):
    lost, back = there_and_back(tmp_path, "a.txt", size=(30, 40))
    assert "boxes only" in lost[0]
    assert same_masks(back, frames())  # these masks are boxes
    assert next(iter(back)).objects[1].score == pytest.approx(0.9)


def test_a_masklet_file_without_frames_converts(tmp_path):
    with st.MaskletWriter(tmp_path / "none.jsonl", "dog.mp4"):
        pass
    for name in ("a.json", "a_ytvis.json", "a_manual.json", "a_mots.txt", "a.txt", "a"):
        st.convert(tmp_path / "none.jsonl", tmp_path / name)
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a.json", "a_cvat.json", "a_ytvis.json", "a_manual.json"])
def test_a_long_clip_is_recognised(tmp_path, name):
    """Its lists of images or videos are far from either end of the file."""
    mask = np.ones((4, 4), bool)
    with st.MaskletWriter(tmp_path / "a.jsonl") as file:
        for index in range(2500):
            seen = st.Prediction(mask, 1.0, True, (0, 0, 4, 4))
            file.write(st.FrameResult(index, Fraction(index, 25), (4, 4), {1: seen}))
    st.convert(tmp_path / "a.jsonl", tmp_path / name)
    st.convert(tmp_path / name, tmp_path / "b.jsonl")
    last = list(st.read_masklets(tmp_path / "b.jsonl"))[-1]
    assert (last.index, last.objects[1].mask.all()) == (2496 if "manual" in name else 2499, True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always text")
@pytest.mark.parametrize("name", ["é.json", "é_cvat.json", "é_ytvis.json", "é_manual.json", "é.txt", "é_mots.txt", "é"])
def test_files_whose_names_are_not_utf_8(tmp_path, name):
    with st.MaskletWriter(tmp_path / "a.jsonl") as file:  # without a source, so that others name themselves
        file.write(next(frames()))
    foreign = tmp_path / os.fsdecode(name.encode("latin-1"))
    st.convert(tmp_path / "a.jsonl", foreign)
    st.convert(foreign, tmp_path / "b.jsonl", size=(30, 40))
    back = st.read_masklets(tmp_path / "b.jsonl")
    assert (back.header.source or "?")[0] == "?"
    assert (next(iter(back)).objects[1].mask == next(frames()).objects[1].mask).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, st.MaskletError])
@pytest.mark.parametrize("name", ["b.jsonl", "a.json", "a_ytvis.json", "a_manual.json", "a_mots.txt", "a.txt", "a"])
def test_a_conversion_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, name, error):
    source = masklets(tmp_path / "a.jsonl")
    whole = MaskletReader.__iter__

    def broken(reader):
        yield next(whole(reader))
        raise error("broken off")

    monkeypatch.setattr(MaskletReader, "__iter__", broken)
    with pytest.raises(error):
        st.convert(source, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_two_conversions_into_one_folder_do_not_mix(tmp_path, monkeypatch):
    source = masklets(tmp_path / "a.jsonl", overlap=False)
    whole, others = MaskletReader.__iter__, ["d"]

    def twice(reader):
        frames = whole(reader)
        yield next(frames)
        if others:
            st.convert(source, tmp_path / others.pop())
        yield from frames

    monkeypatch.setattr(MaskletReader, "__iter__", twice)
    with pytest.raises(st.SinkError, match="d cannot be written"):
        st.convert(source, tmp_path / "d")
    assert len(list((tmp_path / "d").iterdir())) == len(list(whole(st.read_masklets(source))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "d"]


@pytest.mark.parametrize(("name", "most"), [("a", 65535), ("a_mots.txt", 999), ("a.txt", 2**31)])
def test_ids_without_a_place_are_refused_and_nothing_is_left(tmp_path, name, most):
    with st.MaskletWriter(tmp_path / "zero.jsonl") as file:
        seen = st.Prediction(np.ones((4, 4), bool), 1.0, True, (0, 0, 4, 4))
        file.write(st.FrameResult(0, Fraction(0), (4, 4), {0: seen}))
    with pytest.raises(st.SinkError, match=f"object 0 cannot be in .* ids from 1 to {most}"):
        st.convert(tmp_path / "zero.jsonl", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["zero.jsonl"]
