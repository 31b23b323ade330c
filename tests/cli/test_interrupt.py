import json
import signal
import subprocess
import sys
import time

import pytest

import sam2track as st
from tests.cli.outputs import files, times
from tests.clips import solid, write_clip

SLOW = """
import time
from sam2track import backends, cli
from sam2track.backends import fake
from dataclasses import replace

def load(config):
    components = fake.components(64)
    def encode(image):
        time.sleep(0.05)
        return components.image_encoder(image)
    return replace(components, image_encoder=encode)

backends.load = load
cli.main()
"""


@pytest.mark.parametrize("command", ["track", "live"])
def test_ctrl_c_finishes_the_files_and_exits_with_130(place, command):
    write_clip(place / "long.mp4", [solid((20, 20, 20)), solid((250, 250, 250))] * 300, 30)
    flags = ["--point", "5,5", "--masklets", "m.jsonl", "--overlay", "o.mp4", "--json"]
    headless = ["--headless"] if command == "live" else []
    arguments = [sys.executable, "-c", SLOW, command, "long.mp4", *flags, *headless]
    process = subprocess.Popen(arguments, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    partial = place / "m.jsonl.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not partial.exists() or partial.read_bytes().count(b"\n") < 6):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["interrupted"] is True
    assert 4 <= report["frames"] < 600  # the fifth may have been written and not yet counted
    assert len(list(st.read_masklets(place / "m.jsonl"))) in (report["frames"], report["frames"] + 1)
    assert len(times(place / "o.mp4")) in (report["frames"], report["frames"] + 1)
    assert files(place) == {"clip.mp4", "long.mp4", "m.jsonl", "o.mp4"}
