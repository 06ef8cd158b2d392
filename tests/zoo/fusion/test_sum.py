"""What addition leaves out when no gradients are wanted."""

import pytest
import torch

from zoo.fusion import Sum

MODALITIES = ('rgb', 'depth', 'ir')
MASKS = {
    'all': [[1, 1, 1], [1, 1, 1]],
    'one each': [[1, 0, 0], [0, 0, 1]],
    'two': [[1, 1, 0], [1, 1, 0]],
    'none': [[0, 0, 0], [0, 0, 0]],
}


@pytest.mark.parametrize('rows', list(MASKS.values()), ids=list(MASKS))
@pytest.mark.parametrize('absent', [float('nan'), 3.0])
def test_without_gradients_the_sum_is_the_same(rows, absent):
    torch.manual_seed(0)
    fusion, mask = Sum(MODALITIES, {'rgb': 4, 'depth': 6, 'ir': 3}, 5), torch.tensor(rows, dtype=torch.bool)
    features = {m: torch.randn(2, c, 3, 4) for m, c in fusion.channels.items()}
    features = {m: x.where(mask[:, i, None, None, None], absent) for i, (m, x) in enumerate(features.items())}
    expected = fusion(features, mask)
    with torch.no_grad():
        found = fusion(features, mask)
    assert found.shape == (2, 5, 3, 4)
    assert torch.equal(found, expected)


@pytest.mark.parametrize('gradients', [False, True])
def test_a_modality_that_no_row_has_is_projected_for_its_gradient_only(gradients):
    fusion, called = Sum(MODALITIES, 4), []
    for m, projection in fusion.projections.items():
        projection.register_forward_hook(lambda *_, m=m: called.append(m))
    with torch.set_grad_enabled(gradients):
        out = fusion({m: torch.randn(2, 4) for m in MODALITIES}, torch.tensor([[True, False, True]] * 2))
    assert called == (list(MODALITIES) if gradients else ['rgb', 'ir'])
    if gradients:
        out.sum().backward()
        assert fusion.projections['depth'].weight.grad.count_nonzero() == 0
