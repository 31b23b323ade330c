import pytest

from sam2track import backends, cli
from sam2track.backends import fake
from tests.clips import NTSC, solid, write_clip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with a clip of 12 frames; models are fake: what is bright is the object."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "load", lambda config: fake.components(config.image_size or 64))
    images = []
    for index in range(12):
        image = solid((20, 20, 20))
        if not 6 <= index < 9:  # gone for three frames
            image[20:44, 16 + 2 * index : 40 + 2 * index] = 250
        images.append(image)
    write_clip(tmp_path / "clip.mp4", images, NTSC)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command line; gives its exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def fails(run):
    """Runs a command line that fails: gives the code and the one line it says."""

    def fails(*arguments):
        code, out, err = run(*arguments)
        lines = err.splitlines()
        assert lines, "an error says something"
        assert lines[-1].startswith("sam2track: ")
        assert "Traceback" not in err
        assert out == ""
        return code, lines[-1].removeprefix("sam2track: ")

    return fails
