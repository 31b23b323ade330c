"""Click an object in a file's first frame: masks and an overlay of the whole clip.

python samples/track_file.py [CLIP X Y [OUT]]
"""

import sys
from pathlib import Path

import sam2track as st

defaults = [str(Path(__file__).parent / "ball.mp4"), "110", "222", "out"]
clip, x, y, out = [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]
stem = Path(out, Path(clip).stem)
Path(out).mkdir(exist_ok=True)
tracker = st.Tracker.load("nano")
prompts = {0: {1: st.Prompt(points=[(float(x), float(y))])}}  # frame index -> object id -> prompt
with (
    st.open_source(clip) as video,
    st.MaskletWriter(f"{stem}.masklets.jsonl", source=video) as masklets,
    st.VideoWriter(f"{stem}_overlay.mp4", like=video) as overlay,
):
    for frame, result in st.track(video, tracker, prompts):
        masklets.write(result)
        overlay.write(st.overlay(frame, result))
print(f"{stem}_overlay.mp4")
