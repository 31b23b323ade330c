import errno
import io
import json
import tracemalloc
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from sam2track.data import FrameResult, Prediction
from sam2track.errors import MaskletError, SinkError
from sam2track.masks.masklets import MaskletWriter, read_masklets

SOURCE = SimpleNamespace(name="dog.mp4", width=48, height=32, rate=Fraction(30000, 1001))


def prediction(seed, height=32, width=48):
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    mask[0, 0] = mask[-1, -1] = True
    return Prediction(mask, score=0.1 + seed / 7, visible=True, box=(0.0, 0.0, float(width), float(height)))


def hidden(height=32, width=48):
    return Prediction(np.zeros((height, width), bool), score=0.0, visible=False, box=None)


def results(count=5):
    for index in range(count):
        objects = {1: prediction(index), 2**40: hidden() if index == 2 else prediction(index + 1)}
        yield FrameResult(index=2 * index, time=Fraction(2 * index * 1001, 30000), size=(32, 48), objects=objects)


def assert_equal(a, b):
    assert (a.index, a.time, a.size, list(a.objects)) == (b.index, b.time, b.size, list(b.objects))
    for x, y in zip(a.objects.values(), b.objects.values(), strict=True):
        np.testing.assert_array_equal(x.mask, y.mask)
        assert (x.score, x.visible, x.box) == (y.score, y.visible, y.box)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "m.jsonl"
    with MaskletWriter(path, SOURCE, model="nano") as writer:
        for result in results():
            writer.write(result)
    return path


def damaged(path, number, change):
    """Rewrite line ``number`` (from 1): ``change`` takes and gives the line's JSON, or its bytes."""
    lines = path.read_bytes().splitlines(keepends=True)
    value = json.loads(lines[number - 1])
    change(value)
    lines[number - 1] = json.dumps(value).encode() + b"\n"
    path.write_bytes(b"".join(lines))


def test_round_trip_is_exact(written):
    reader = read_masklets(written)
    header = reader.header
    assert (header.source, header.width, header.height, header.model) == ("dog.mp4", 48, 32, "nano")
    assert header.rate == Fraction(30000, 1001)
    assert set(header.software) >= {"sam2track", "torch"}
    for _ in range(2):  # a reader can be iterated again
        back = list(reader)
        assert len(back) == 5
        for a, b in zip(back, results(), strict=True):
            assert_equal(a, b)
    assert isinstance(back[1].time, Fraction)
    assert not written.with_name("m.jsonl.partial").exists()


def test_the_file_is_what_the_documentation_says(written):
    header, first, second = (json.loads(line) for line in written.read_text().splitlines()[:3])
    assert (header["format"], header["version"], header["rate"]) == ("sam2track-masklets", 1, "30000/1001")
    assert first["time"] == "0"
    assert second["time"] == "1001/15000"
    assert set(second["objects"]) == {"1", str(2**40)}
    assert set(second["objects"]["1"]) == {"rle", "score", "visible", "box"}
    assert second["objects"]["1"]["rle"]["size"] == [32, 48]


def test_numpy_values_are_written(tmp_path):
    item = prediction(1)
    item = Prediction(item.mask, np.float32(0.5), np.True_, tuple(np.float32(edge) for edge in item.box))
    with MaskletWriter(tmp_path / "m") as writer:
        writer.write(FrameResult(np.int64(3), Fraction(1, 3), (32, 48), {np.int64(7): item}))
    (back,) = read_masklets(tmp_path / "m")
    assert (back.index, list(back.objects), back.objects[7].score) == (3, [7], 0.5)


def test_without_a_source_the_size_is_that_of_the_first_frame(tmp_path):
    with MaskletWriter(tmp_path / "m", "camera 0") as writer:
        for result in results(1):
            writer.write(result)
    header = read_masklets(tmp_path / "m").header
    assert (header.source, header.width, header.height, header.rate) == ("camera 0", 48, 32, None)


def test_without_frames_there_is_still_a_file(tmp_path):
    with MaskletWriter(tmp_path / "m"):
        pass
    reader = read_masklets(tmp_path / "m")
    assert list(reader) == []
    assert (reader.header.width, reader.header.height) == (0, 0)


def test_lines_reach_the_disk_at_once_under_the_partial_name(tmp_path):
    path = tmp_path / "m.jsonl"
    with MaskletWriter(path, SOURCE) as writer:
        for count, result in enumerate(results(), start=1):
            writer.write(result)
            assert not path.exists()
            assert len(list(read_masklets(tmp_path / "m.jsonl.partial"))) == count
    assert path.exists()


def test_ctrl_c_finishes_the_file(tmp_path):
    path = tmp_path / "m.jsonl"

    def interrupted():
        with MaskletWriter(path, SOURCE) as writer:
            for result in results(3):
                writer.write(result)
            writer._file.write(b'{"index": 9, "ti')  # as if it came in the middle of a line
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(list(read_masklets(path))) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]


def test_another_exception_keeps_the_old_file_and_the_partial(written):
    before = written.read_bytes()

    def broken():
        with MaskletWriter(written, SOURCE) as writer:
            for result in results(2):
                writer.write(result)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert written.read_bytes() == before
    assert len(list(read_masklets(written.with_name("m.jsonl.partial")))) == 2


def test_closing_by_hand_twice_is_fine_and_ends_writing(tmp_path):
    writer = MaskletWriter(tmp_path / "m", SOURCE)
    writer.close()
    writer.close()
    with pytest.raises(SinkError, match="closed"):
        writer.write(next(results()))
    assert list(read_masklets(tmp_path / "m")) == []


def test_writer_refuses_a_path_it_cannot_make(tmp_path):
    with pytest.raises(SinkError, match="is a folder"):
        MaskletWriter(tmp_path)
    with pytest.raises(SinkError, match="No such file or directory"):
        MaskletWriter(tmp_path / "missing" / "m.jsonl")


def test_of_two_writers_to_one_file_the_later_has_it(tmp_path):
    seen = list(results())
    first = MaskletWriter(tmp_path / "m.jsonl", SOURCE)
    first.write(seen[0])
    with MaskletWriter(tmp_path / "m.jsonl", SOURCE) as second:
        second.write(seen[0])
        first.write(seen[1])
        with pytest.raises(SinkError, match="is being written by another run too; give each"):
            first.close()
        assert not (tmp_path / "m.jsonl").exists()
        second.write(seen[2])
    assert [result.index for result in read_masklets(tmp_path / "m.jsonl")] == [0, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


class FullDisk(io.BytesIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_a_sink_error_and_keeps_the_partial(tmp_path):
    def full():
        with MaskletWriter(tmp_path / "m", SOURCE) as writer:
            writer.write(FrameResult(0, Fraction(0), (32, 48), {}))
            writer._file.close()
            writer._file = FullDisk()
            writer.write(FrameResult(1, Fraction(0), (32, 48), {}))

    with pytest.raises(SinkError, match=r"m cannot be written \(No space left"):
        full()
    assert [file.name for file in tmp_path.iterdir()] == ["m.partial"]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (FrameResult(4, Fraction(0), (32, 48), {}), "frame 4 comes after frame 4"),
        (FrameResult(5, Fraction(0), (48, 32), {}), "frame 5 is 32x48 but m holds 48x32"),
        (FrameResult(5, Fraction(0), (32, 48), {1: prediction(1, 30, 48)}), "mask is 48x30 but the frame is 48x32"),
        (FrameResult(5, Fraction(0), (32, 48), {2**63: hidden()}), "objects"),
        (FrameResult(5, Fraction(0), (32, 48), {1: Prediction(hidden().mask, np.nan, False, None)}), "finite"),
    ],
)
def test_writer_refuses(tmp_path, result, message):
    with MaskletWriter(tmp_path / "m", SOURCE) as writer:
        writer.write(FrameResult(4, Fraction(0), (32, 48), {}))
        with pytest.raises(SinkError, match=message):
            writer.write(result)
    assert [r.index for r in read_masklets(tmp_path / "m")] == [4]  # what was refused left no trace


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a masklet file"),
        (b"hello\nworld\n", "not a masklet file"),
        (bytes(range(256)) * 20, "not a masklet file"),
        (b"[" * 100_000, "not a masklet file"),
        (b'{"format": "coco", "version": 1, "width": 4, "height": 4}\n', "format 'coco'"),
        (b'{"format": "sam2track-masklets", "version": 2, "width": 4, "height": 4}\n', "version is 2.*update"),
        (b'{"format": "sam2track-masklets", "version": 1, "width": -4, "height": 4}\n', "line 1: width"),
        (b'{"format": "sam2track-masklets", "version": 1, "width": 4, "height": 4, "rate": "1/0"}\n', "line 1: rate"),
        (b'{"format": "sam2track-masklets", "version": 1, "wid', "line 1: "),
    ],
)
def test_reader_refuses_files_of_other_kinds(tmp_path, content, message):
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(MaskletError, match=message) as caught:
        read_masklets(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_reader_refuses_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(MaskletError, match="No such file"):
        read_masklets(tmp_path / "missing")
    with pytest.raises(MaskletError, match="directory"):
        read_masklets(tmp_path)


def test_a_cut_last_line_names_itself_after_the_whole_frames(written):
    written.write_bytes(written.read_bytes()[:-40])
    frames = iter(read_masklets(written))
    assert [next(frames).index for _ in range(4)] == [0, 2, 4, 6]
    with pytest.raises(MaskletError, match="line 6 is cut off"):
        next(frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(index=0), "line 3 has frame 0 after 0"),
        (lambda f: f.update(index=-1), "line 3: index"),
        (lambda f: f.update(index="2"), "line 3: index"),
        (lambda f: f.update(time=0.5), "line 3: time: .*fraction"),
        (lambda f: f.update(time="1/0"), "line 3: time: .*fraction"),
        (lambda f: f.update(time="9" * 5000), "line 3: time: .*fraction"),
        (lambda f: f.pop("objects"), "line 3: objects: Field required"),
        (lambda f: f["objects"].update(dog=f["objects"]["1"]), "line 3: objects.dog"),
        (lambda f: f["objects"]["1"].update(score=float("inf")), "line 3: objects.1.score"),
        (lambda f: f["objects"]["1"].update(visible=1), "line 3: objects.1.visible"),
        (lambda f: f["objects"]["1"].update(box=[0, 0, 900, 4]), "line 3: object 1: box .* outside the 48x32"),
        (lambda f: f["objects"]["1"].update(box=[9, 0, 3, 4]), "line 3: object 1: box .* empty"),
        (lambda f: f["objects"]["1"]["rle"].update(size=[48, 32]), "mask is 32x48 but the file is 48x32"),
        (lambda f: f["objects"]["1"]["rle"].update(size=[10**9, 10**9]), "the file is 48x32"),
        (lambda f: f["objects"]["1"]["rle"].update(counts="0"), "line 3: object 1: RLE counts do not fill"),
        (lambda f: f["objects"]["1"]["rle"].update(counts=[5, 6]), "line 3: objects.1.rle.counts"),
    ],
)
def test_reader_names_the_damaged_line(written, change, message):
    damaged(written, 3, change)
    frames = iter(read_masklets(written))
    assert next(frames).index == 0
    with pytest.raises(MaskletError, match=message) as caught:
        next(frames)
    assert "\n" not in str(caught.value)


def test_reader_ignores_fields_of_later_versions(written):
    damaged(written, 2, lambda frame: frame.update(camera="left"))
    assert len(list(read_masklets(written))) == 5


def test_reader_refuses_absurd_sizes_before_it_allocates(written):
    damaged(written, 1, lambda header: header.update(width=2**31, height=2**31))
    tracemalloc.start()
    with pytest.raises(MaskletError, match="line 2: 2 masks of 2147483648x2147483648 exceed"):
        list(read_masklets(written))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_reader_refuses_an_absurd_line(written, monkeypatch):
    monkeypatch.setattr("sam2track.masks.masklets.MAX_LINE", 300)
    with pytest.raises(MaskletError, match="line 2 is longer than 300 bytes"):
        list(read_masklets(written))


def test_reading_is_lazy(written):
    damaged(written, 6, lambda frame: frame.clear())
    frames = iter(read_masklets(written))
    for index in (0, 2, 4, 6):
        assert next(frames).index == index
