import pytest
import torch

from sam2track.network import layers


@pytest.mark.parametrize(("shape", "size"), [((1, 16, 16, 3), 8), ((2, 10, 14, 5), 4), ((3, 7, 7, 2), 14)])
def test_windows_hold_their_patch_and_merge_back(shape, size):
    x = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    windows, padded = layers.window_partition(x, size)
    assert windows.shape[1:] == (size, size, shape[3])
    assert torch.equal(windows[0, : min(size, shape[1]), : min(size, shape[2])], x[0, :size, :size])
    assert torch.equal(layers.window_merge(windows, padded, shape[1:3]), x)


def test_rotation_depends_on_the_distance_between_tokens_only():
    cosine, sine = layers.rotary_table(4, 16)
    q, k = torch.randn(1, 1, 16).expand(1, 16, 16), torch.randn(1, 1, 16).expand(1, 16, 16)
    scores = (layers.rotate(q, cosine, sine) @ layers.rotate(k, cosine, sine).transpose(1, 2))[0]
    assert scores[0, 5].item() == pytest.approx(scores[10, 15].item(), abs=1e-5), "one right, one down"
    assert scores[3, 3].item() == pytest.approx((q[0, 0] @ k[0, 0]).item(), abs=1e-5)
    assert abs(scores[0, 1] - scores[0, 4]) > 1e-4, "rows and columns turn different channels"


def test_sine_table_is_symmetric_in_rows_and_columns():
    table = layers.sine_table(6, 8).reshape(6, 6, 8)
    assert torch.allclose(table[2, 5, :4], table[5, 2, 4:])
    assert table[5, 0, 0].item() == pytest.approx(0, abs=1e-5), "the last row is at 2 pi"


def test_fourier_code_of_the_centre_is_zero_then_one():
    code = layers.fourier_code(torch.tensor([0.5, 0.5]), torch.randn(2, 3))
    assert code.tolist() == [0, 0, 0, 1, 1, 1]
    frequencies = torch.randn(2, 3)
    table = layers.fourier_table(4, frequencies)
    assert torch.allclose(table[0, :, 1, 2], layers.fourier_code(torch.tensor([0.625, 0.375]), frequencies))
