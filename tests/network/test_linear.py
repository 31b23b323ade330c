"""Products by oneDNN equal torch's own, and are used where they may be."""

import pytest
import torch
import torch.nn.functional as F

from sam2track.network.linear import HAS_ONEDNN, Linear, linear

SHAPES = {  # x as the networks make it: whole, spread over objects, and with channels moved last
    "tokens": lambda: torch.randn(2, 600, 64),
    "pixels": lambda: torch.randn(1, 64, 30, 30).permute(0, 2, 3, 1),
    "rows of a view": lambda: torch.randn(900, 128)[:, 64:],
    "one for all": lambda: torch.randn(1, 600, 64).expand(3, -1, -1),
    "small": lambda: torch.randn(1, 3, 64),
}


@pytest.fixture
def products(monkeypatch):
    """Shapes of what went through oneDNN, which is called all the same."""
    seen, op = [], torch.ops.mkldnn._linear_pointwise

    def call(x, *rest):
        seen.append(tuple(x.shape))
        return op(x, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", call)
    return seen


@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch(shape, biased, activation, products):
    torch.manual_seed(0)
    x, weight = SHAPES[shape](), torch.randn(96, 64)
    bias = torch.randn(96) if biased else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    expected = {"none": lambda y: y, "relu": F.relu, "gelu": F.gelu}[activation](expected)
    with torch.inference_mode():
        y = linear(x, weight, bias, activation)
    assert products == ([tuple(x.shape)] if HAS_ONEDNN and shape != "small" else [])
    assert y.shape == (*x.shape[:-1], 96)
    assert (y - expected).norm() / expected.norm() < 1e-6
    assert (y - expected).abs().max() < 2e-4


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of flags(), of which one is set
def test_torch_itself_where_gradients_precisions_or_graphs_are_wanted(products):
    layer, x = Linear(64, 96), torch.randn(1, 600, 64)
    layer(x, "gelu").sum().backward()
    assert float(layer.weight.grad.norm()) > 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    with torch.inference_mode():
        linear(x, torch.randn(64, 96).t())
        layer.double()(x.double())
    with torch.no_grad():
        graph = torch.export.export(layer.float(), (x,), {"activation": "gelu"}).graph
    assert products == []
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == [
        "aten.linear.default",
        "aten.gelu.default",
    ]
