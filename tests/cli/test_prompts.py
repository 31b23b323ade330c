import json

import numpy as np
import pytest

import sam2track as st
from sam2track.cli.prompts import Gathered, check_fit, read_mask
from sam2track.errors import PromptError
from tests.clips import solid, write_images


def gathered(first=0, **flags):
    prompts = Gathered(first)
    prompts.add_flags(**flags)
    return prompts.prompts()


def from_file(tmp_path, content, name="prompts.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    prompts = Gathered()
    prompts.add_file(path)
    return prompts.prompts()


def paint(folder, box, size=(64, 96), color=(0, 128, 0)):
    """A picture that is black but for a box; returns its path and mask."""
    x0, y0, x1, y1 = box
    image = solid((0, 0, 0), size)
    image[y0:y1, x0:x1] = color
    write_images(folder, [image])
    return folder / "00000.png", (image > 0).any(axis=2)


def test_the_short_form_is_object_1_on_the_first_frame():
    (prompt,) = gathered(points=["510,320"])[0].values()
    assert prompt.points == ((510.0, 320.0),)
    assert prompt.labels == (1,)
    assert gathered(first=7, points=["5,6"]).keys() == {7}


def test_the_long_form_names_object_and_frame():
    schedule = gathered(
        points=["2:5.5,6@30", "5,6", "7,8"], negatives=["2:9,9@30"], boxes=["1:0,0,10,20", "3:1,2,3,4@30"]
    )
    assert list(schedule) == [0, 30]
    assert schedule[0][1].points == ((5.0, 6.0), (7.0, 8.0))
    assert schedule[0][1].box == (0.0, 0.0, 10.0, 20.0)
    assert list(schedule[30]) == [2, 3]
    assert schedule[30][2].points == ((5.5, 6.0), (9.0, 9.0))
    assert schedule[30][2].labels == (1, 0)
    assert schedule[30][3].box == (1.0, 2.0, 3.0, 4.0)


def test_a_mask_flag_names_a_file(tmp_path):
    path, mask = paint(tmp_path / "at@7", (10, 20, 40, 50))
    schedule = gathered(masks=[f"4:{path}@12"])
    np.testing.assert_array_equal(schedule[12][4].mask, mask)
    np.testing.assert_array_equal(gathered(masks=[str(path)])[0][1].mask, mask)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"points": ["20"]}, ["--point '20'", "X,Y", "510,320"]),
        ({"points": ["1,2,3"]}, ["--point '1,2,3'", "X,Y"]),
        ({"points": ["a:1,2"]}, ["--point 'a:1,2'"]),
        ({"points": ["1,2@"]}, ["--point '1,2@'"]),
        ({"points": ["1,2@-3"]}, ["--point '1,2@-3'"]),
        ({"points": [""]}, ["--point ''"]),
        ({"points": ["1,nan"]}, ["object 1 on frame 0", "finite"]),
        ({"negatives": ["x,y"]}, ["--negative 'x,y'"]),
        ({"boxes": ["1,2,3"]}, ["--box '1,2,3'", "X0,Y0,X1,Y1"]),
        ({"boxes": ["9,9,3,3"]}, ["object 1 on frame 0", "x0 < x1"]),
        ({"boxes": ["1,1,3,3", "1:1,1,4,4@0"]}, ["--box '1:1,1,4,4@0'", "second box"]),
        ({"masks": ["missing.png"]}, ["missing.png", "No such file"]),
    ],
)
def test_flags_that_cannot_be_read(flags, words):
    with pytest.raises(PromptError) as caught:
        gathered(**flags)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_mask_and_a_point_for_one_object_do_not_go_together(tmp_path):
    path, _ = paint(tmp_path, (10, 20, 40, 50))
    with pytest.raises(PromptError, match=r"object 2 on frame 3: .*a mask stands alone"):
        gathered(masks=[f"2:{path}@3"], points=["2:1,1@3"])
    assert len(gathered(masks=[f"2:{path}@3"], points=["3:1,1@3"])[3]) == 2


def test_a_toml_file_holds_every_kind_of_prompt(tmp_path):
    _, mask = paint(tmp_path / "masks", (10, 20, 40, 50))
    schedule = from_file(
        tmp_path,
        """
        [[prompts]]
        points = [[510, 320], [470.5, 90]]
        labels = [1, 0]
        box = [420, 180, 640, 520]
        [[prompts]]
        object = 2
        frame = 5
        mask = "masks/00000.png"
        """,
        "prompts.toml",
    )
    assert schedule[0][1].points == ((510.0, 320.0), (470.5, 90.0))
    assert schedule[0][1].labels == (1, 0)
    assert schedule[0][1].box == (420.0, 180.0, 640.0, 520.0)
    np.testing.assert_array_equal(schedule[5][2].mask, mask)  # found relative to the file


def test_a_file_and_flags_add_up(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text('{"prompts": [{"points": [[1, 2]]}, {"points": [[3, 4]], "labels": [0]}]}')
    prompts = Gathered(first=4)
    prompts.add_flags(points=["5,6"])
    prompts.add_file(path)
    prompt = prompts.prompts()[4][1]
    assert prompt.points == ((5.0, 6.0), (1.0, 2.0), (3.0, 4.0))
    assert prompt.labels == (1, 1, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prompts": [{"bx": [1]}]}, ["prompts[0].bx", "did you mean 'box'"]),
        ({"prompt": []}, ["prompts is missing"]),
        ({"prompts": []}, ["prompts = []", "a list of prompts"]),
        ([], ["content = []"]),
        ({"prompts": [{"box": [1, 2, 3]}]}, ["prompts[0].box = [1, 2, 3]", "[x0, y0, x1, y1]"]),
        ({"prompts": [{"points": [[1, 2], [3]]}]}, ["points[1] = [3]", "[x, y]"]),
        ({"prompts": [{"points": [[1, 2]], "labels": [2]}]}, ["labels[0] = 2"]),
        ({"prompts": [{"points": [[1, 2]], "labels": [1, 1]}]}, ["1 points but 2 labels"]),
        ({"prompts": [{"object": 2**63, "box": [0, 0, 1, 1]}]}, ["object = 9223372036854775808", "from 0 to 9223372"]),
        ({"prompts": [{"object": -1, "box": [0, 0, 1, 1]}]}, ["object = -1", "an integer from 0"]),
        ({"prompts": [{"frame": 1.5, "box": [0, 0, 1, 1]}]}, ["frame = 1.5", "integer"]),
        ({"prompts": [{"box": [0, 0, 1, 1]}, {"box": [0, 0, 2, 2]}]}, ["two boxes"]),
        ({"prompts": [{}]}, ["object 1 on frame 0", "empty"]),
        ("{", ["not JSON"]),
        ("[" * 100_000, ["not JSON"]),
        (" " * 1_000_001, ["larger than 1 MB"]),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, words):
    with pytest.raises(PromptError) as caught:
        from_file(tmp_path, content)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message


def test_files_of_another_kind(tmp_path):
    with pytest.raises(PromptError, match=r"neither \.toml nor \.json"):
        from_file(tmp_path, "", "prompts.yaml")
    with pytest.raises(PromptError, match="not TOML"):
        from_file(tmp_path, "[[prompts", "prompts.toml")
    with pytest.raises(PromptError, match="cannot be read"):
        Gathered().add_file(tmp_path / "missing.toml")


def test_masks_are_what_is_not_black(tmp_path):
    path, mask = paint(tmp_path / "faint", (10, 20, 40, 50), color=(1, 1, 1))
    np.testing.assert_array_equal(read_mask(path), mask)
    black, _ = paint(tmp_path / "black", (0, 0, 0, 0))
    with pytest.raises(PromptError, match="all black"):
        read_mask(black)
    with pytest.raises(PromptError, match="is a folder"):
        read_mask(tmp_path)
    image = solid((0, 0, 0))
    image[20:52, 16:48] = 255
    write_images(tmp_path / "lossy", [image], "{:05d}.jpg")
    lossy = read_mask(tmp_path / "lossy" / "00000.jpg")
    assert (lossy != (image > 0).any(axis=2)).mean() < 0.01


class Clip:
    name, width, height, frame_count = "clip.mp4", 96, 64, 100


@pytest.mark.parametrize(
    ("schedule", "limits", "words"),
    [
        ({0: {1: st.Prompt(points=[(97, 5)])}}, (0, None), "object 1 on frame 0: .*outside the 96x64 frame"),
        ({0: {1: st.Prompt(mask=np.ones((64, 64), bool))}}, (0, None), "64x64 but the frame is 96x64"),
        ({3: {1: st.Prompt(points=[(1, 5)])}}, (4, None), "frame 3, but tracking covers frames 4 on"),
        ({9: {1: st.Prompt(points=[(1, 5)])}}, (4, 8), "frame 9, but tracking covers frames 4 to 8"),
        ({1000: {1: st.Prompt(points=[(1, 5)])}}, (0, None), "frame 1000, but clip.mp4 has 100 frames"),
    ],
)
def test_prompts_that_do_not_fit_the_clip(schedule, limits, words):
    with pytest.raises(PromptError, match=words):
        check_fit(schedule, Clip(), *limits)


def test_prompts_that_fit():
    check_fit({4: {1: st.Prompt(points=[(96, 64)])}, 8: {2: st.Prompt(box=(90, 60, 200, 200))}}, Clip(), 4, 8)
