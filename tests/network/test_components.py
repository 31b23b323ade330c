"""What must hold of the five components whatever their weights."""

import pytest
import torch

from sam2track.backends import pytorch
from sam2track.contracts import check
from sam2track.errors import ConfigError
from sam2track.network.variants import VARIANTS, Network
from sam2track.pins import Pin

SIZE, SIDE, TOKENS = 64, 4, 16


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = Network(VARIANTS["nano"], SIZE)
    for parameter in net.parameters():
        if parameter.numel() == 1 or parameter.std() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


@pytest.fixture
def memory():
    torch.manual_seed(1)
    return {
        "s16": torch.randn(1, 128, SIDE, SIDE),
        "tokens": torch.randn(3, 4, TOKENS, 64),
        "slot": torch.tensor([[0, 3, 2, 1]] * 3),
        "pointer": torch.randn(3, 5, 128),
        "age": torch.rand(3, 5),
    }


def test_components_honour_their_contracts(network, memory):
    parts = pytorch.components(network, Pin("torch", "cpu", "fp32"))
    sparse, dense = torch.randn(3, 4, 128), torch.randn(3, 128, SIDE, SIDE)
    features = parts.image_encoder(torch.randn(1, 3, SIZE, SIZE))
    inputs = {
        "image_encoder": (torch.randn(1, 3, SIZE, SIZE),),
        "prompt_encoder": (
            torch.rand(3, 3, 2) * SIZE,
            torch.tensor([[1.0, 0, 2]] * 3),
            torch.randn(3, 1, SIZE // 4, SIZE // 4),
            torch.tensor([1.0, 0, 0]),
            torch.ones(3, 1, SIZE, SIZE),
            torch.tensor([0.0, 1, 0]),
        ),
        "memory_attention": (*memory.values(), torch.ones(3, 9, dtype=torch.bool)),
        "mask_decoder": (features.s16.expand(3, -1, -1, -1), features.s4, features.s8, sparse, dense),
        "memory_encoder": (features.s16, torch.randn(3, 1, SIZE, SIZE), torch.randn(3, 1), torch.zeros(3)),
    }
    for name, tensors in inputs.items():
        check(name, "inputs", tensors, network.sizes)
        outputs = getattr(parts, name)(*tensors)
        check(name, "outputs", [outputs] if isinstance(outputs, torch.Tensor) else outputs, network.sizes)
    with pytest.raises(ValueError, match=r"memory_encoder inputs logits is torch.float32\[3, 1, 8, 8\], expected"):
        check("memory_encoder", "inputs", (features.s16, torch.randn(3, 1, 8, 8), None, None), network.sizes)


def test_padded_memory_is_not_seen(network, memory):
    attention = network.memory_attention
    with torch.no_grad():
        short = attention(
            memory["s16"],
            memory["tokens"][:, :2],
            memory["slot"][:, :2],
            memory["pointer"][:, :3],
            memory["age"][:, :3],
        )
        valid = torch.tensor([[True, True, False, False, True, True, True, False, False]] * 3)
        padded = attention(**memory, valid=valid)
    assert torch.allclose(short, padded, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(short, attention(**memory), atol=1e-2)


def test_the_cpu_and_the_general_form_of_attention_agree(network, memory):
    attention = network.memory_attention
    valid = torch.tensor([[True] * 6 + [False] * 3, [True] * 9, [True, False] * 4 + [True]])
    with torch.no_grad():
        by_rows = attention(**memory, valid=valid)
    with torch.enable_grad():
        general = attention(**memory, valid=valid)
    assert general.requires_grad
    assert torch.allclose(by_rows, general, atol=1e-5)


def test_a_batch_equals_its_objects_one_by_one(network, memory):
    with torch.no_grad():
        together = network.memory_attention(**memory)
        alone = [
            network.memory_attention(
                memory["s16"], *(memory[k][i : i + 1] for k in ("tokens", "slot", "pointer", "age"))
            )
            for i in range(3)
        ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_inference_folds_and_caches_without_changing_the_features(network):
    image = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        folded = network.image_encoder(image)
        network.image_encoder.train()
        plain = network.image_encoder(image)
        network.image_encoder.eval()
    for a, b in zip(folded, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert not set(network.state_dict()) & {"image_encoder.s4_weight", "image_encoder.trunk.position_table"}


def test_folded_in_training_both_layers_of_the_fine_maps_learn_as_if_one_followed_the_other(network):
    encoder, image = network.image_encoder, torch.randn(1, 3, SIZE, SIZE)
    layers = encoder.lateral[0], encoder.project_s4, encoder.lateral[1], encoder.project_s8
    learned = [p for layer in layers for p in layer.parameters()]
    encoder.train()
    x4, x8, _, _ = encoder.trunk(image)
    plain = encoder.project_s4(encoder.lateral[0](x4)), encoder.project_s8(encoder.lateral[1](x8))
    folded = encoder(image)
    encoder.eval()
    weights = [torch.randn_like(maps) for maps in plain]
    gradients = []
    for maps in (plain, (folded.s4, folded.s8)):
        loss = sum((each * weight).sum() for each, weight in zip(maps, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, learned, retain_graph=True))
    for a, b in zip(plain, (folded.s4, folded.s8), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


def test_where_an_object_is_not_visible_its_pointer_is_the_learned_one(network):
    decoder = network.mask_decoder
    inputs = [torch.randn(2, 128, SIDE, SIDE), torch.randn(1, 16, 16, 16), torch.randn(1, 32, 8, 8)]
    bias = decoder.score_head.layers[-1].bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(-100)
        hidden = decoder(*inputs, torch.randn(2, 2, 128), torch.zeros(2, 128, SIDE, SIDE))
        bias.copy_(before)
    assert (hidden.object_score < 0).all()
    assert torch.equal(hidden.pointer, decoder.no_object_pointer.expand(2, 4, -1))


@pytest.mark.parametrize("size", [100, 32])
def test_image_size_must_be_a_multiple_of_32(size):
    with pytest.raises(ConfigError, match=f"image_size {size} is not a multiple of 32"):
        Network(VARIANTS["nano"], size)
