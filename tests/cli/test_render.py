import subprocess
import sys

import sam2track as st
from tests.cli.outputs import files
from tests.clips import NTSC, solid, write_clip


def test_render_draws_what_track_drew(place, run):
    run("track", "clip.mp4", "--point", "28,32", "--start", "2", "--frames", "6")
    code, out, _ = run("render", "clip.mp4", "clip.jsonl", "-o", "again.mp4")
    assert code == 0
    assert "again.mp4" in out
    with st.open_source("clip_overlay.mp4") as drawn, st.open_source("again.mp4") as again:
        pairs = list(zip(drawn, again, strict=True))
    assert len(pairs) == 6
    for left, right in pairs:
        assert left.time == right.time
        assert (left.image == right.image).all()


def test_render_has_a_style(place, run):
    run("track", "clip.mp4", "--point", "28,32")
    plain = ("--opacity", "0", "--contour", "0", "--no-labels")
    assert run("render", "clip.mp4", "clip.jsonl", "-o", "plain.mp4", *plain)[0] == 0
    assert run("render", "clip.mp4", "clip.jsonl", "-o", "full.mp4", "--opacity", "1", "--trace", "5")[0] == 0
    with st.open_source("clip.mp4") as clip, st.open_source("plain.mp4") as plain, st.open_source("full.mp4") as full:
        original, bare, drawn = next(clip).image.astype(int), next(plain).image, next(full).image
    assert abs(original - bare).mean() < 3  # but for the codec, nothing was drawn
    assert abs(original - drawn).mean() > 10


def test_render_needs_no_torch(place):
    with st.open_source("clip.mp4") as source, st.MaskletWriter("m.jsonl", source) as writer:
        for frame in source:
            writer.write(st.FrameResult(frame.index, frame.time, (64, 96)))
    code = (
        "import sys; from sam2track import cli\n"
        "try: cli.main(['render', 'clip.mp4', 'm.jsonl', '-q'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["0", "False"]


def test_render_refuses_what_does_not_fit(place, run, fails):
    run("track", "clip.mp4", "--point", "28,32", "--masklets", "m.jsonl")
    write_clip(place / "short.mp4", [solid((0, 0, 0))] * 5, NTSC)
    write_clip(place / "small.mp4", [solid((0, 0, 0), (48, 64))] * 12, NTSC)
    before = files(place)
    for clip, word in (("short.mp4", "frame 5"), ("small.mp4", "96x64"), ("missing.mp4", "does not exist")):
        code, message = fails("render", clip, "m.jsonl", "-o", "o.mp4")
        assert code == 1
        assert word in message
    assert fails("render", "clip.mp4", "clip.mp4", "-o", "o.mp4")[0] == 1
    assert fails("render", "clip.mp4", "m.jsonl", "-o", "m.jsonl", "--force")[1].startswith("m.jsonl is an input")
    assert fails("render", "clip.mp4", "m.jsonl", "--trace", "1")[0] == 2
    assert files(place) == before
