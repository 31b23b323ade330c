"""Objects of one batch, shared among threads."""

import threading

import pytest
import torch

from sam2track.backends import pytorch
from sam2track.backends.rows import set_helpers, sharing_rows
from sam2track.network.variants import VARIANTS, Network
from sam2track.pins import Pin

SIZE = 64


@pytest.fixture
def helpers():
    yield set_helpers
    set_helpers(0)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_component_says_the_same_with_and_without_helpers(helpers, count):
    torch.manual_seed(0)
    parts = pytorch.components(Network(VARIANTS["nano"], SIZE), Pin.parse("torch:cpu:fp32"))
    features = parts.image_encoder(torch.randn(1, 3, SIZE, SIZE))
    memory = torch.randn(3, 2, 16, 64), torch.tensor([[0, 1]] * 3), torch.randn(3, 4, 128), torch.rand(3, 4)
    valid = torch.tensor([[True] * 6, [True, False, True, True, True, False], [True] * 6])

    def outputs():
        fused = parts.memory_attention(features.s16, *memory, valid)
        sparse, dense = parts.prompt_encoder(torch.rand(3, 1, 2) * SIZE, torch.ones(3, 1), None, None, None, None)
        decoded = parts.mask_decoder(fused, features.s4, features.s8, sparse, dense)
        mask = torch.linspace(-3, 3, 3 * SIZE * SIZE).reshape(3, 1, SIZE, SIZE)
        tokens = parts.memory_encoder(features.s16, mask, decoded.object_score, torch.tensor([1.0, 0.0, 0.0]))
        whole = parts.memory_attention(features.s16, *memory, None)
        return fused, sparse, dense, *decoded, tokens, whole

    torch.manual_seed(1)
    alone = outputs()
    helpers(count)
    torch.manual_seed(1)
    for one, other in zip(alone, outputs(), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_as_many_threads_as_there_are_objects_or_helpers(helpers):
    seen = []

    def encode(s16, logits, score, prompted):
        seen.append((threading.current_thread().name.rsplit("_", 1)[0], len(s16), len(logits), prompted.tolist()))
        return score

    def shared(objects):
        seen.clear()
        inputs = (
            torch.zeros(1, 8, 4, 4),
            torch.zeros(objects, 1, 64, 64),
            torch.zeros(objects, 1),
            torch.arange(objects),
        )
        assert sharing_rows("memory_encoder", encode)(*inputs).shape == (objects, 1)
        return sorted(seen, key=lambda each: each[3])

    main = threading.current_thread().name
    assert shared(3) == [(main, 1, 3, [0, 1, 2])]
    helpers(1)
    assert shared(3) == [(main, 1, 2, [0, 1]), ("sam2track-rows", 1, 1, [2])]
    assert shared(1) == [(main, 1, 1, [0])]
    helpers(2)
    assert shared(2) == [(main, 1, 1, [0]), ("sam2track-rows", 1, 1, [1])]


def test_what_fails_in_a_helper_is_raised(helpers):
    def fail(s16, logits, score, prompted):
        if prompted[0]:
            raise RuntimeError("the second object")
        return score

    helpers(1)
    with pytest.raises(RuntimeError, match="the second object"):
        sharing_rows("memory_encoder", fail)(torch.zeros(1), torch.zeros(2), torch.zeros(2), torch.tensor([0, 1]))


def test_helpers_that_are_not_wanted_any_more_end(helpers):
    def rows():
        return [thread for thread in threading.enumerate() if thread.name.startswith("sam2track-rows")]

    helpers(2)
    sharing_rows("memory_encoder", lambda *inputs: inputs[2])(torch.zeros(1), *[torch.zeros(3)] * 3)
    assert rows()
    helpers(0)
    assert rows() == []
