import threading

import pytest

from sam2track.files import natural, written_whole


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"

    def fail():
        with written_whole(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_get_in_each_others_way(tmp_path):
    path, whole, seen = tmp_path / "notes.txt", {"a" * 5000, "b" * 5000}, set()

    def write(text):
        for _ in range(100):
            with written_whole(path) as partial:
                partial.write_text(text)
            seen.add(path.read_text())

    threads = [threading.Thread(target=write, args=[text]) for text in whole]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == whole
    assert list(tmp_path.iterdir()) == [path]


def test_natural_order_is_that_of_numbers():
    names = ["007", "8", "1" * 9000, "a/2", "b10c2", "b10c10", "img", "IMG1", "img2", "img10"]
    assert sorted(sorted(names), key=natural) == names
