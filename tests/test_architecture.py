"""The layout shows the architecture: imports point only downwards, and outside libraries keep to their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sam2track

PACKAGE = Path(sam2track.__file__).parent
LEVELS = [
    {"cache", "data", "errors", "contracts", "chips", "config", "files", "interrupts", "pins", "timing"},
    {"network", "video", "masks", "datasets", "pixels", "render", "window", "hub"},
    {"backends"},
    {"memory", "steps", "segmenter"},
    {
        "evaluation",
        "tracker",
        "engine",
        "channel",
        "schedule",
        "drift",
        "calibration",
        "sessions",
        "stills",
        "discovery",
        "train",
    },
    {"compat"},
    {"cli"},
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
ROOMS_OF = {
    "av": {"video"},
    "onnxruntime": {"backends"},
    "onnxruntime_qnn": {"backends"},
    "onnx": {"backends"},
    "onnxscript": {"backends"},
    "onnxslim": {"backends"},
    "cv2": {"render", "window", "masks", "pixels", "video"},  # video: only to be loaded before av
    "supervision": {"render", "window", "masks", "data", "stills", "discovery"},
}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "sam2track" else []
            yield from names or [node.module]


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards_and_keep_to_their_rooms(path):
    here = room(path)
    assert here in LEVEL_OF, f"{here} has no level; add it to LEVELS"
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "sam2track" and rest and rest[0] in LEVEL_OF:
            assert LEVEL_OF[rest[0]] <= LEVEL_OF[here], f"{here} imports {name}, which lies above it"
        if top in ROOMS_OF:
            assert here in ROOMS_OF[top], f"{here} imports {top}, which belongs in {sorted(ROOMS_OF[top])}"


def test_opencv_is_loaded_before_av():
    """The other way round, OpenCV's windows hang on Linux."""
    order = "import sam2track.video, sys; names = list(sys.modules); print(names.index('cv2') < names.index('av'))"
    done = subprocess.run([sys.executable, "-c", order], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_public_names_are_those_of_all():
    assert set(sam2track.__all__) == set(sam2track._HOME_OF)
    for name in sam2track.__all__:
        assert getattr(sam2track, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sam2track.nothing
