import signal

import pytest
import torch

# a shell that runs the tests in the background has them ignore Ctrl-C, and they would hand that on to what they start
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # tensors are tiny here, and threads that wait for a busy machine cost more than they give


@pytest.fixture(scope="session")
def short_nano(tmp_path_factory):
    """nano at 128 px as ONNX: few and small graphs, for a memory of one prompted and one recent frame."""
    from sam2track.backends.export import export
    from sam2track.backends.manifest import Room
    from sam2track.config import Config

    folder = tmp_path_factory.mktemp("exported") / "nano"
    memory = {"memory.prompted": 1, "memory.recent": 1, "memory.pointers": 2}
    export(Config.load("nano", image_size=128, set=memory), folder, Room(slots=(2,), pointers=2, points=(2,)))
    return folder
