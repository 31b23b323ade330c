"""Track what is clicked in a camera's picture, or in the file or stream given instead.

python samples/track_live.py [SOURCE]
"""

import sys

import sam2track as st

tracker = st.Tracker.load("nano")
with st.open_source(sys.argv[1] if len(sys.argv) > 1 else 0) as camera, st.Window("click an object") as window:
    prompts: dict[int, st.Prompt] = {}
    for frame in camera:
        result = tracker.step(frame, prompts)
        prompts = window.show(st.overlay(frame, result))
        if window.closed:
            break
