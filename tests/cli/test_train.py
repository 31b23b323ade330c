"""``sam2track train``: runs as a user starts them."""

import csv
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from sam2track import hub
from sam2track.network import weights
from sam2track.train import checkpoint
from sam2track.train.launch import LOCK
from sam2track.train.loop import WEIGHTS
from tests.train.material import davis_folder


@pytest.fixture
def folder(tmp_path):
    """Discs and plain photos, enough for both sides of the split."""
    y, x = np.mgrid[0:40, 0:40] - 19.5
    disc = np.zeros((40, 40, 4), np.uint8)
    disc[np.hypot(x, y) < 18] = (250, 40, 40, 255)
    for part in ("cutouts", "photos"):
        (tmp_path / "assets" / part).mkdir(parents=True)
    for i in range(40):
        Image.fromarray(disc).save(tmp_path / "assets" / "cutouts" / f"disc{i}.png")
        Image.new("RGB", (32, 24), (i, 2 * i, 200)).save(tmp_path / "assets" / "photos" / f"plain{i}.png")
    return tmp_path / "assets"


def test_from_nothing_and_on(run, folder, tmp_path):
    out = tmp_path / "runs" / "mine"
    flags = ("train", folder, "--recipe", "smoke", "--out", out, "--device", "cpu", "--every", 2)
    code, said, _ = run(*flags)
    assert code == 0
    assert "step 2  stage 0" in said
    assert "mask_jf" in said
    code, said, _ = run(*flags)
    assert (code, said.strip()) == (0, "resumed at step 4 of 4")


def test_ctrl_c_saves_the_last_step_and_exits_with_130(folder, tmp_path):
    out = tmp_path / "runs" / "stopped"
    flags = ["--recipe", "smoke", "--length", "500", "--every", "1000", "--out", out, "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sam2track.cli; sam2track.cli.main()", "train", folder, *flags],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log, deadline = out / "log.csv", time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and log.read_text().count("\n") > 1):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (130, False), err
    with log.open() as file:
        last = [row["step"] for row in csv.DictReader(file)][-1]
    assert said.splitlines()[-1].startswith(f"step {last} ")
    assert checkpoint.read(out)["step"] == int(last) > 20
    assert {path.name for path in out.iterdir()} == {"checkpoint.pt", "curves", "log.csv", WEIGHTS, LOCK}


def test_two_runs_do_not_share_a_folder(run, fails, folder, tmp_path):
    out = tmp_path / "runs" / "mine"
    flags = ("train", folder, "--recipe", "smoke", "--length", 0.5, "--out", out, "--device", "cpu", "-q")
    out.mkdir(parents=True)
    with FileLock(out / LOCK):
        code, line = fails(*flags)
        assert (code, "another run is at work in" in line) == (1, True)
        assert [path.name for path in out.iterdir()] == [LOCK]
    assert run(*flags)[0] == 0  # the file of an ended run stays, and keeps nobody out
    other = tmp_path / "runs" / "other"
    (other / LOCK).mkdir(parents=True)
    code, line = fails(*flags[:-4], other, *flags[-3:])
    assert (code, "cannot be written (Is a directory); choose one you can write" in line) == (1, True)


def test_packed_assets_train_too(run, fails, folder, tmp_path):
    packed = tmp_path / "small.zip"
    assert run("train", folder, "--pack", packed)[0] == 0
    assert len(zipfile.ZipFile(packed).namelist()) == 80
    code, line = fails("train", folder, "--pack", packed)
    assert (code, "small.zip exists; give another name, or --force" in line) == (2, True)
    (folder / "photos" / "plain7.png").write_bytes(b"none")
    line = fails("train", folder, "--pack", tmp_path / "other.zip")[1]
    assert "plain7.png cannot be read (no picture, or damaged); replace" in line
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["small.zip"]
    out = tmp_path / "runs" / "packed"
    assert run("train", packed, "--recipe", "smoke", "--length", 0.5, "--out", out, "--device", "cpu", "-q")[0] == 0
    assert (out / WEIGHTS).is_file()


def test_fine_tuning_keeps_what_is_frozen(run, tmp_path):
    davis_folder(tmp_path / "clips", clips=1, frames=3)
    started, out = hub.find("nano"), tmp_path / "runs" / "tuned"
    flags = ("--weights", started, "--freeze", "image_encoder", "--image-size", 64, "--frames", 2, "--length", 0.002)
    code, said, _ = run("train", "--clips", tmp_path / "clips", *flags, "--out", out, "--device", "cpu")
    assert code == 0
    assert "step 2" in said
    before, after = (weights.to_ours(weights.read(path)) for path in (started, out / WEIGHTS))
    frozen = [name for name in before if name.startswith("image_encoder.")]
    assert all((before[name].float() == after[name]).all() for name in frozen)
    assert any((before[name].float() != after[name]).any() for name in before if name not in frozen)


def test_two_processes_learn_together(tmp_path):
    davis_folder(tmp_path / "clips", clips=1, frames=3)
    out = tmp_path / "runs" / "two"
    command = "import sam2track.cli; sam2track.cli.main()"
    script = tmp_path / "start.py"  # processes are started by running the script again
    script.write_text(command)
    flags = ["--recipe", "smoke", "--out", out, "--device", "cpu", "--devices", "2", "--every", "2"]
    done = subprocess.run(
        [sys.executable, script, "train", "--clips", tmp_path / "clips", *flags],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "distributed_backend=gloo" in done.stderr
    assert done.stdout.count("step 4 ") == 1  # only the first process reports
    with (out / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    weights.read(out / WEIGHTS)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "nothing to learn from"),
        (["assets", "--recipe", "gpus"], 2, "recipe 'gpus' is unknown; did you mean 'gpu'"),
        (["assets", "--freeze", "encoder"], 2, "component 'encoder' cannot be frozen"),
        (["nowhere"], 1, "neither a folder nor a packed file"),
        (["--pack", "x.zip"], 2, "--pack needs ASSETS"),
        (["assets", "--pack", "no/x.zip"], 2, "folder no for x.zip does not exist"),
        (["assets", "--length", "inf"], 2, "--length"),
        (["assets", "--image-size", "0"], 2, "--image-size"),
        (["assets", "--seed", "99999999999999999999"], 2, "--seed"),
        (["assets", "--image-size", "100"], 2, "image_size 100 is not a multiple of 32"),
        (["--clips", "assets", "--model", "nano", "--weights", "no.pt"], 1, "has no JPEGImages and Annotations"),
        (["assets", "--out", "assets/cutouts/disc0.png/x"], 1, "cannot be made"),
    ],
)
def test_wrong_use_is_one_line(fails, folder, monkeypatch, flags, code, message):
    monkeypatch.chdir(folder.parent)
    ended, line = fails("train", *flags, "--device", "cpu")
    assert (ended, message in line) == (code, True), line
