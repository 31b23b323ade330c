import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sam2track import config as config_module
from sam2track.config import MODELS, Config, presets
from sam2track.errors import ConfigError
from sam2track.pins import Pin


def problem(*args, **overrides):
    with pytest.raises(ConfigError) as caught:
        Config.load(*args, **overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def toml(folder, text, name="mine.toml"):
    path = folder / name
    path.write_text(text)
    return path


def test_defaults_are_those_of_sam_2():
    config = Config()
    assert (config.model, config.weights, config.image_size) == ("nano", None, None)
    assert (config.memory.prompted, config.memory.recent, config.memory.pointers) == (4, 6, 16)
    assert config.memory.keep_corrections is True
    assert (config.tracking.max_objects, config.tracking.visible_above, config.tracking.fill_holes) == (16, 0.0, 8)
    assert str(config.components.pin("mask_decoder")) == "torch:auto:auto"


def test_a_file_is_read_whole(tmp_path):
    path = toml(
        tmp_path,
        """
        model = "sam2.1-tiny"
        weights = "mine.pt"
        image_size = 512
        [components]
        default = "torch:cuda:1"
        image_encoder = "qnn:npu:w8a16"
        [memory]
        recent = 0
        keep_corrections = false
        [tracking]
        visible_above = 1
        """,
    )
    config = Config.load(path)
    assert config.model == "sam2.1-tiny"
    assert config.weights == str(tmp_path / "mine.pt")  # relative to the file, not to where one stands
    assert config.image_size == 512
    assert config.components.pin("memory_encoder") == Pin("torch", "cuda:1", "auto")
    assert config.components.pin("image_encoder") == Pin("qnn", "npu", "w8a16")
    assert (config.memory.recent, config.memory.prompted, config.memory.keep_corrections) == (0, 4, False)
    assert config.tracking.visible_above == 1.0


@pytest.mark.parametrize("word", ["x-elite", "Snapdragon X Elite", "SC8380XP", 60])
def test_a_chip_goes_by_name_part_or_number(word):
    assert Config.load("nano", set={"qnn.soc": word}).qnn.soc == "x-elite"


def test_overrides_win_over_the_file_and_weights_of_a_flag_stay_as_given(tmp_path):
    path = toml(tmp_path, 'weights = "a.pt"\nimage_size = 512\n[memory]\nrecent = 2\n')
    config = Config.load(
        path,
        weights="b.pt",
        image_size=256,
        set={"memory.recent": 4, "model": "sam2-tiny"},
        pin={"image_encoder": "torch:cpu:fp32"},
        device="cuda",
    )
    assert (config.weights, config.image_size, config.memory.recent, config.model) == ("b.pt", 256, 4, "sam2-tiny")
    assert str(config.components.pin("image_encoder")) == "torch:cpu:fp32"  # its own pin is stronger than --device
    assert str(config.components.pin("mask_decoder")) == "torch:cuda:auto"


def test_a_config_can_be_loaded_again_with_overrides():
    first = Config.load("sam2.1-small", pin={"mask_decoder": "torch:cpu"})
    second = Config.load(first, set={"tracking.fill_holes": 0})
    assert (second.model, second.tracking.fill_holes) == ("sam2.1-small", 0)
    assert second.components == first.components
    assert Config.load(first) == first


def test_overrides_do_not_change_what_they_override():
    first = Config()
    Config.load(first, set={"memory.recent": 1}, device="cpu")
    assert first == Config()


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().memory.recent = 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("engine", None),
        ("torch", ("torch", "auto", "auto")),
        ("torch:cpu", ("torch", "cpu", "auto")),
        ("torch:cuda:3", ("torch", "cuda:3", "auto")),
        ("torch:cuda:bf16", ("torch", "cuda", "bf16")),
        ("torch:cuda:3:fp16", ("torch", "cuda:3", "fp16")),
        ("onnx:cpu:int8", ("onnx", "cpu", "int8")),
        ("", None),
        ("torch:", None),
        ("torch:cpu:fp32:x", None),
        ("torch::fp16", None),
    ],
)
def test_pins(text, expected):
    if expected is None:
        with pytest.raises(ConfigError, match="engine"):
            Pin.parse(text)
    else:
        pin = Pin.parse(text)
        assert (pin.engine, pin.device, pin.precision) == expected
        assert Pin.parse(str(pin)) == pin


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"set": {"memory.recnt": 4}}, ["memory.recnt", "did you mean 'recent'"]),
        ({"set": {"memori.recent": 4}}, ["'memori'", "did you mean 'memory'"]),
        ({"set": {"memory.recent": 7}}, ["memory.recent = 7", "0 to 6"]),
        ({"set": {"memory.recent": "4"}}, ["memory.recent = '4'", "integer"]),
        ({"set": {"memory.prompted": 0}}, ["memory.prompted = 0", "1 to 64"]),
        ({"set": {"memory.keep_corrections": 1}}, ["keep_corrections = 1", "true or false"]),
        ({"set": {"tracking.visible_above": float("nan")}}, ["visible_above = nan", "finite"]),
        ({"set": {"memory": 4}}, ["memory = 4", "a table"]),
        ({"weights": ""}, ["weights = ''", "the path of a checkpoint"]),
        ({"set": {"exported": "a\0b"}}, ["exported = 'a\\x00b'", "the path of an exported folder"]),
        ({"image_size": 16**5000}, ["image_size = an integer of thousands of digits", "multiple of 32"]),
        ({"set": {"memory.recent": "4" * 1000}}, ["memory.recent = '4444", "44..."]),
        ({"device": "cuda:256"}, ["'cuda:256' is unknown"]),
        ({"device": "cuda:01"}, ["'cuda:01' is unknown"]),
        ({"set": {"model.x": 4}}, ["model.x", "not a table"]),
        ({"set": {"model": "sam2.1-tny"}}, ["'sam2.1-tny'", "did you mean 'sam2.1-tiny'"]),
        ({"image_size": 100}, ["image_size = 100", "multiple of 32"]),
        ({"image_size": 2080}, ["image_size = 2080", "2048"]),
        ({"pin": {"image_encodr": "torch"}}, ["image_encodr", "did you mean 'image_encoder'"]),
        ({"pin": {"image_encoder": "tensor"}}, ["'tensor'", "torch, onnx, qnn"]),
        ({"pin": {"image_encoder": "torch:npu"}}, ["'npu'", "cpu, cuda"]),
        ({"pin": {"image_encoder": "torch:cpu:fp8"}}, ["'fp8'", "did you mean 'fp"]),
        ({"pin": {"image_encoder": "onnx:mps"}}, ["'mps' is unknown to onnx", "auto, cpu, cuda"]),
        ({"pin": {"image_encoder": "onnx:cpu:w4a4"}}, ["'w4a4' is unknown to onnx", "w8a16"]),
        ({"device": "gpu"}, ["'gpu'", "cpu"]),
        ({"pin": {"image_encoder": "qnn:nup"}}, ["'nup'", "did you mean 'npu'"]),
        ({"pin": {"image_encoder": "qnn:cuda:1"}}, ["'cuda:1'", "emulator"]),
        ({"pin": {"image_encoder": "qnn:npu:fp32"}}, ["'fp32'", "did you mean 'fp16'"]),
        ({"set": {"qnn.soc": "x-elit"}}, ["'x-elit'", "did you mean 'x-elite'", "8-gen-3 (57)"]),
        ({"set": {"qnn.soc": 59}}, ["chip 59 is unknown"]),
        ({"set": {"qnn.soc": True}}, ["qnn.soc = True", "x-elite"]),
        ({"set": {"qnn.performance": "brust"}}, ["'brust'", "did you mean 'burst'"]),
    ],
)
def test_what_is_wrong_is_named_in_one_line(overrides, words):
    message = problem(**overrides)
    for word in words:
        assert word in message


def test_a_problem_in_a_file_names_the_file_and_one_in_a_flag_does_not(tmp_path):
    path = toml(tmp_path, "[memory]\nrecent = 9\n")
    assert str(path) in problem(path)
    assert str(path) not in problem(path, set={"memory.recent": 8})
    assert Config.load(path, set={"memory.recent": 5}).memory.recent == 5


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"[memory", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"a = " + b"[" * 20_000, "not TOML"),
        (b"#" * 1_000_001, "larger than 1 MB"),
    ],
)
def test_files_that_are_no_config(tmp_path, content, word):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    assert word in problem(path)


def test_sources_that_do_not_exist(tmp_path):
    assert "did you mean 'sam2.1-large'" in problem("sam2.1-lrge")
    assert "cannot be read" in problem(tmp_path / "missing.toml")
    assert "checkpoint" in problem("mine.pt")
    assert "is no model, preset or config file" in problem("x" * 5000)
    assert "cannot be read: embedded null byte" in problem("a\0b.toml")
    assert "in the home of a user who is not here" in problem("~nobody-by-this-name/x.toml")


def test_the_constructor_says_it_the_same_way():
    with pytest.raises(ConfigError, match=r"^config: memory\.recent = 7; expected an integer from 0 to 6$"):
        Config(memory={"recent": 7})


def test_every_preset_loads_by_name_and_by_path():
    assert set(presets()) == {"cpu", "cpu-int8", "cuda", "edge-mixed", "edge-npu", "quality"}
    for name, path in presets().items():
        assert Config.load(name) == Config.load(path)
        assert Config.load(name).model in MODELS
        assert path.read_text().startswith("# "), f"{name} does not say what it trades"
    assert str(Config.load("cuda").components.pin("image_encoder")) == "torch:cuda:bf16"
    assert str(Config.load("edge-npu").components.pin("memory_attention")) == "qnn:npu:fp16"
    assert str(Config.load("edge-mixed").components.pin("memory_attention")) == "onnx:cpu:fp32"


def test_presets_are_found_in_an_installed_package_too(tmp_path):
    package = Path(config_module.__file__).parent
    installed = tmp_path / "sam2track"
    installed.mkdir()
    for name in ("config.py", "chips.py", "errors.py", "pins.py"):
        shutil.copy(package / name, installed)
    (installed / "__init__.py").touch()
    shutil.copytree(package.parent / "configs", installed / "configs")
    code = "from sam2track.config import *; import sam2track; print(sam2track.__file__, Config.load('cpu').image_size)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [str(installed / "__init__.py"), "512"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always text")
def test_paths_that_are_no_text():
    assert Config.load("nano", weights=os.fsdecode(b"cl\xefp/w.pt")).weights.endswith("w.pt")
