import pytest
import torch
from scipy.fft import dctn

from zoo.blocks import Cosine, cosine_matrix


@pytest.mark.parametrize('n', [1, 2, 7, 24, 512])
def test_the_matrix_is_orthonormal(n):
    matrix = cosine_matrix(n)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n), rtol=0, atol=1e-5)


@pytest.mark.parametrize('memory', [torch.contiguous_format, torch.channels_last])
def test_both_transforms_are_those_of_scipy_and_invertible(memory):
    x = torch.randn(2, 6, 7, 5).contiguous(memory_format=memory)
    for axis, axes in (('channel', (1,)), ('spatial', (2, 3))):
        cosine = Cosine(axis)
        expected = torch.from_numpy(dctn(x.numpy(), axes=axes, norm='ortho'))
        torch.testing.assert_close(cosine(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(cosine.inverse(cosine(x)), x, rtol=1e-5, atol=1e-5)
        assert not cosine.state_dict()
    torch.testing.assert_close(Cosine('channel')(x)[:, 0], x.mean(1) * 6**0.5, rtol=1e-5, atol=1e-5)


def test_a_matrix_first_made_in_inference_mode_serves_training():
    cosine = Cosine()
    with torch.inference_mode():
        cosine(torch.randn(1, 4, 2, 3))
    x = torch.randn(1, 4, 2, 3, requires_grad=True)
    cosine(x).sum().backward()
    assert x.grad.any()


def test_a_pass_gives_the_module_no_buffer():
    cosine = Cosine()
    cosine(torch.randn(1, 4, 2, 3))
    assert not list(cosine.buffers())
    assert cosine.half()(torch.randn(1, 4, 2, 3).half()).dtype == torch.float32
