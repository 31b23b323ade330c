import pytest
import torch

from sam2track import backends
from sam2track.backends import pytorch
from sam2track.config import Config
from sam2track.errors import BackendError, WeightsError
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network
from sam2track.pins import Pin

SIZE = 64


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = Network(VARIANTS["nano"], SIZE)
    for parameter in net.parameters():
        if parameter.numel() == 1 or parameter.std() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def components(network, text):
    return pytorch.components(network, Pin.parse(text))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_and_gives_fp32(network, precision):
    full, half = components(network, "torch:cpu:fp32"), components(network, f"torch:cpu:{precision}")
    assert half.placement["memory_attention"] == f"torch:cpu:{precision}"
    torch.manual_seed(1)
    image = torch.randn(1, 3, SIZE, SIZE)
    memory = torch.randn(2, 3, 16, 64), torch.tensor([[0, 2, 1]] * 2), torch.randn(2, 4, 128), torch.rand(2, 4)
    valid = torch.tensor([[True] * 7, [True, False, True, True, True, False, True]])
    outputs = []
    for parts in (full, half):
        s16 = parts.image_encoder(image).s16
        outputs.append((s16, parts.memory_attention(full.image_encoder(image).s16, *memory, valid)))
    for a, b in zip(*outputs, strict=True):
        assert b.dtype == torch.float32
        assert 1e-5 < (a - b).norm() / a.norm() < 0.05


def test_auto_is_fp32_on_the_cpu(network):
    if torch.cuda.is_available():
        assert components(network, "torch:cpu:auto").placement["mask_decoder"] == "torch:cpu:fp32"
    else:
        assert set(components(network, "torch").placement.values()) == {"torch:cpu:fp32"}


def test_a_device_that_is_not_there_is_named(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="image_encoder is pinned to cuda, but torch sees no CUDA device"):
        components(network, "torch:cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BackendError, match="pinned to mps, which this machine does not have"):
        components(network, "torch:mps")


def test_load_places_weights_from_a_file(network, tmp_path):
    weights.save(network, tmp_path / "nano.safetensors")
    config = Config.load("nano", weights=str(tmp_path / "nano.safetensors"), image_size=SIZE, device="cpu")
    parts = backends.load(config)
    assert parts.sizes.image_size == SIZE
    with torch.inference_mode():
        expected = network.eval().image_encoder(torch.zeros(1, 3, SIZE, SIZE)).s16
    assert torch.equal(parts.image_encoder(torch.zeros(1, 3, SIZE, SIZE)).s16, expected)
    with pytest.raises(WeightsError, match="do not exist"):
        backends.load(Config.load("nano", weights=str(tmp_path / "nowhere.pt")))
