"""Attention over memory, in blocks that suit a CPU."""

import pytest
import torch
import torch.nn.functional as F

from sam2track.network import memory_attention
from sam2track.network.memory_attention import attend


@pytest.mark.parametrize(
    ("rows", "keys", "blocks"), [(300, 1000, [300]), (400, 2864, [200, 200]), (700, 5000, [234, 234, 232])]
)
def test_blocks_of_rows_give_what_the_whole_gives(rows, keys, blocks, monkeypatch):
    seen, linear = [], memory_attention.linear

    def counted(x, *rest):
        seen.append(len(x))
        return linear(x, *rest)

    monkeypatch.setattr(memory_attention, "linear", counted)
    torch.manual_seed(0)
    q, k, v = torch.randn(2, rows, 32), torch.randn(2, keys, 32), torch.randn(2, keys, 16)
    bias = torch.zeros(2, 1, keys)
    bias[1, :, keys // 2 :] = memory_attention.MASKED
    wanted = torch.cat(
        [
            F.scaled_dot_product_attention(q[:1], k[:1], v[:1]),
            F.scaled_dot_product_attention(q[1:], k[1:, : keys // 2], v[1:, : keys // 2]),
        ]
    )
    with torch.inference_mode():
        found = attend(q, k, v, bias)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert seen[::2] == blocks * 2  # scores, each followed by its values
