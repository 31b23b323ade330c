"""Draw a masklet file over its clip: no model, no weights.

python samples/render_masklets.py [CLIP MASKLETS OUT.mp4]
"""

import sys
from pathlib import Path

import sam2track as st

here = Path(__file__).parent
defaults = [str(here / "koi.mp4"), str(here / "koi.masklets.jsonl"), "out/koi_overlay.mp4"]
clip, masklets, out = [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]
Path(out).parent.mkdir(exist_ok=True)
with st.open_source(clip) as video, st.VideoWriter(out, like=video) as overlay:
    for frame, result in zip(video, st.read_masklets(masklets), strict=True):
        overlay.write(st.overlay(frame, result))
print(out)
