import numpy as np
import pytest

from sam2track.cli import progress as progress_module
from sam2track.cli.options import load_config
from sam2track.cli.progress import Progress
from sam2track.data import Prediction
from sam2track.errors import ConfigError


def objects(**states):
    """Object id -> prediction; ``o1=True`` is object 1, visible."""
    mask = np.ones((2, 2), bool)
    return {int(name[1:]): Prediction(mask, 1.0, visible, None) for name, visible in states.items()}


@pytest.fixture
def clock(monkeypatch):
    """Time that only passes when told."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress_module, "monotonic", lambda: Clock.now)
    return Clock


def test_without_a_terminal_there_is_a_line_every_ten_seconds(clock, capsys):
    with Progress(120) as progress:
        for _ in range(30):
            clock.now += 0.5
            progress.frame(objects(o1=True, o2=False))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["20/120 frames, 2.0 fps, 0:50 left, 1 visible, 2 occluded"]


def test_a_stream_has_no_end_to_wait_for(clock, capsys):
    with Progress(None) as progress:
        clock.now += 11
        progress.frame(objects(**{f"o{i}": i > 2 for i in range(1, 10)}), "7 skipped")
    assert capsys.readouterr().err == "1 frames, 0.1 fps, 7 of 9 visible, 7 skipped\n"


def test_quiet_is_quiet(clock, capsys):
    with Progress(3, quiet=True) as progress:
        clock.now += 11
        progress.frame()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_with_rate_and_states(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with Progress(4) as progress:
        for _ in range(3):
            progress.frame(objects(o1=True, o7=False))
    shown = capsys.readouterr().err
    for word in ("3/4", "fps", "1 visible, 7 occluded"):
        assert word in shown


@pytest.mark.parametrize(
    ("text", "value"),
    [("memory.recent=3", 3), (" memory.recent = 3 ", 3), ("memory.keep_corrections=false", False)],
)
def test_set_reads_values_as_toml(text, value):
    config = flags(sets=[text])
    assert value in (config.memory.recent, config.memory.keep_corrections)


def test_set_takes_words_without_quotes():
    assert flags(sets=["model=sam2.1-tiny"]).model == "sam2.1-tiny"
    assert flags(sets=['model="sam2.1-tiny"']).model == "sam2.1-tiny"
    assert flags(sets=["components.default=torch:cpu"]).components.default.device == "cpu"
    with pytest.raises(ConfigError, match=r"memory\.recent = '3\\nmodel=1'; expected an integer"):
        flags(sets=["memory.recent=3\nmodel=1"])


def test_a_model_given_beside_a_config_replaces_that_of_the_config():
    config = flags(model="nano", config="quality")
    assert (config.model, config.memory.prompted) == ("nano", 8)


def flags(model=None, config=None, sets=None):
    return load_config(model, config, weights=None, image_size=None, device=None, pins=None, sets=sets)
