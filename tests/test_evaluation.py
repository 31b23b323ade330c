import numpy as np
import pytest
from vos_benchmark.benchmark import VideoEvaluator

import sam2track as st
from sam2track import evaluation
from sam2track.backends import fake
from sam2track.errors import ConfigError, MaskletError, SourceError
from sam2track.masks.labels import read_labels, write_labels
from tests.datasets import made


@pytest.fixture
def tracker():
    return st.Tracker(fake.components(64))


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("prompt", ["mask", "click", "box"])
def test_davis_end_to_end_equals_vos_benchmark(tmp_path, tracker, prompt):
    root = made.davis(tmp_path / "davis")
    clips = st.open_dataset(root, sequences=["two"])
    seen = []
    (clip,) = st.evaluate(clips, tracker, prompt=prompt, save_masks=tmp_path / "out", on_frame=seen.append)
    assert (clip.name, clip.frames) == ("two", 7)  # the first and the last of 9 are not scored
    assert [result.index for result in seen] == list(range(9))
    score = clip.objects[1]
    _, j, f = VideoEvaluator(str(root / "Annotations" / "480p"), str(tmp_path / "out"))("two")
    assert (100 * score.j, 100 * score.f) == pytest.approx((j[1], f[1]), abs=1e-9)
    assert score.j > 0.8
    assert score.presence == 1  # hidden on frame 5, and told so
    assert names(tmp_path / "out") == [f"two/{index:05d}.png" for index in range(9)]


def test_youtube_vos_prompts_objects_where_they_appear(tmp_path, tracker):
    root = made.ytvos(tmp_path / "ytvos")
    clips = st.open_dataset(root)
    prompts = evaluation.first_prompts(clips[0], "mask", 320)
    assert {index: list(objects) for index, objects in prompts.items()} == {0: [3], 4: [7]}
    assert (prompts[4][7].mask == made.late(4)).all()
    (clip,) = st.evaluate(clips, tracker, save_masks=tmp_path / "out")
    assert clip.frames == 3  # annotated: 0, 2, 4, 6, 8
    _, j, f = VideoEvaluator(str(root / "valid" / "Annotations"), str(tmp_path / "out"))("clip")
    for i in (3, 7):
        assert (100 * clip.objects[i].j, 100 * clip.objects[i].f) == pytest.approx((j[i], f[i]), abs=1e-9)
    assert clip.objects[3].j > 0.8
    assert clip.objects[7].j < 0.5  # the fake sees one bright object, and where both claim a pixel the lower id has it


@pytest.mark.parametrize(("make", "ids"), [(made.sav_folders, (0, 1)), (made.sav_json, (4, 9))])
def test_sav_keeps_overlapping_objects_apart(tmp_path, tracker, make, ids):
    clips = st.open_dataset(make(tmp_path / "sav"))
    (clip,) = st.evaluate(clips, tracker, save_masks=tmp_path / "out")
    whole, half = (clip.objects[i] for i in ids)
    assert clip.frames == 2  # annotated: 0, 4, 8, 12
    assert whole.j > 0.8
    assert half.j == pytest.approx(0.5, abs=0.1)  # the fake gives the whole square for its half, whatever overlaps
    saved = names(tmp_path / "out")
    assert len(saved) == 2 * 13
    assert saved[0] == f"{clip.name}/{ids[0]:03d}/00000.png"
    assert (read_labels(tmp_path / "out" / saved[3]) == made.square(3) * 255).mean() > 0.95


def test_click_and_box_prompts_come_from_the_mask():
    mask = made.square(2)
    click, box = evaluation.as_prompt(mask, "click"), evaluation.as_prompt(mask, "box")
    ((x, y),) = click.points
    assert mask[int(y), int(x)]
    assert box.box == (16, 20, 40, 44)


def test_a_mask_too_small_to_be_seen_is_given_as_a_click(tmp_path):
    (clip, *_) = st.open_dataset(made.ytvos(tmp_path / "ytvos"))
    first = {size: evaluation.first_prompts(clip, "mask", size)[0][3] for size in (320, 2)}
    assert first[320].mask is not None
    assert (first[2].mask, len(first[2].points)) == (None, 1)


def test_saved_masks_are_scored_again_without_tracking(tmp_path, tracker):
    clips = st.open_dataset(made.davis(tmp_path / "davis"), sequences=["one", "two"])
    seen = []
    first = next(iter(st.evaluate(clips, tracker, save_masks=tmp_path / "out", on_frame=seen.append)))
    assert (first.name, len(seen)) == ("one", 9)
    again = list(st.evaluate(clips, tracker, save_masks=tmp_path / "out", on_frame=seen.append))
    assert len(seen) == 18  # only the second was tracked
    assert again[0] == first
    assert list(st.score_masks(clips, tmp_path / "out")) == again


def test_an_interrupted_sequence_leaves_no_folder_and_is_done_again(tmp_path, tracker):
    clips = st.open_dataset(made.davis(tmp_path / "davis"))

    def interrupt(result):
        if result.index == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(st.evaluate(clips, tracker, save_masks=tmp_path / "out", on_frame=interrupt))
    assert list((tmp_path / "out").iterdir()) == []
    (clip,) = st.evaluate(clips, tracker, save_masks=tmp_path / "out")
    assert clip.frames == 7
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]


def test_ends_are_scored_on_demand(tmp_path, tracker):
    clips = st.open_dataset(made.davis(tmp_path))
    (clip,) = st.evaluate(clips, tracker, keep_ends=True)
    assert clip.frames == 9


def test_a_sequence_annotated_once_is_tracked_but_not_scored(tmp_path, tracker):
    root = made.ytvos(tmp_path / "ytvos")
    for path in (root / "valid" / "Annotations" / "clip").iterdir():
        if path.stem != "00000":
            path.unlink()
    (clip,) = st.evaluate(st.open_dataset(root), tracker, save_masks=tmp_path / "out")
    assert (clip.frames, clip.objects) == (0, {})
    assert len(names(tmp_path / "out")) == 9


def test_predictions_that_do_not_fit_are_one_line(tmp_path):
    clips = st.open_dataset(made.davis(tmp_path / "davis"))
    with pytest.raises(MaskletError, match="expected the masks of sequence two"):
        list(st.score_masks(clips, tmp_path / "none"))
    folder = tmp_path / "out" / "two"
    folder.mkdir(parents=True)
    for index in range(9):
        write_labels(folder / f"{index:05d}.png", made.square(index).astype(np.uint8))
    (clip,) = st.score_masks(clips, tmp_path / "out")
    assert (clip.objects[1].j, clip.objects[1].f) == (1, 1)
    write_labels(folder / "00003.png", np.ones((3, 3), np.uint8))
    with pytest.raises(MaskletError, match="sequence two, frame 00003: masks of shape"):
        list(st.score_masks(clips, tmp_path / "out"))
    (folder / "00002.png").unlink()
    with pytest.raises(MaskletError, match=r"00002\.png cannot be read"):
        list(st.score_masks(clips, tmp_path / "out"))


def test_truth_that_cannot_be_prompted_names_its_sequence(tmp_path, tracker):
    clips = st.open_dataset(made.davis(tmp_path))
    truth = clips[0].truth
    write_labels(truth / "00000.png", np.ones((3, 3), np.uint8))
    with pytest.raises(SourceError, match=r"sequence two cannot be tracked: .*3x3"):
        list(st.evaluate(clips, tracker))
    for path in truth.iterdir():
        write_labels(path, np.zeros(made.SIZE, np.uint8))
    with pytest.raises(SourceError, match="sequence two has no object"):
        list(st.evaluate(clips, tracker))


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, tracker):
    clips = st.open_dataset(made.davis(tmp_path / "davis"))
    (clips[0].video / f"{clips[0].frame_name(3)}.jpg").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"frame 00003 of .*two is missing or damaged; copy it again"):
        list(st.evaluate(clips, tracker, save_masks=tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_unknown_prompts_are_refused_at_once(tracker):
    with pytest.raises(ConfigError, match="did you mean 'click'"):
        st.evaluate([], tracker, prompt="clik")
