"""What the commands left behind."""

import sam2track as st


def times(path):
    with st.open_source(path) as source:
        return [frame.time for frame in source]


def files(folder):
    return {path.name for path in folder.iterdir()}
