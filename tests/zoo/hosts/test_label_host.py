"""What hosts share that give class logits."""

import pytest
import torch

from plugins import DKD
from registry import InputError
from zoo.datasets import IGNORE
from zoo.hosts import EncoderDecoder, LateFusion

INPUTS = {'rgb': torch.rand(2, 3, 32, 64), 'depth': torch.rand(2, 1, 32, 64)}
PARTS = {'encoder': 'test_resnet', 'in_chans': {'rgb': 3, 'depth': 1}}


@pytest.mark.parametrize('wrong', [4, -1])
def test_a_label_that_is_no_class_gets_one_line_whatever_is_trained(wrong):
    taught = LateFusion(['rgb', 'depth'], 4, **PARTS, aux_heads=True)
    taught.plug(DKD(teacher_modality='depth', student_modality='rgb'))
    maps = EncoderDecoder(['rgb', 'depth'], 4, **PARTS)
    for host, none, shape in ((taught, -100, (2,)), (maps, IGNORE, (2, 32, 64))):
        target = torch.randint(0, 4, shape)
        target[0] = none
        assert host(INPUTS, target=target, mode='loss')['loss_task'].isfinite()
        target[1] = wrong
        with pytest.raises(InputError, match=rf'^Label {wrong} is out of range, expected 0\.\.3, or {none} for none'):
            host(INPUTS, target=target, mode='loss')


def test_a_target_that_is_no_class_index_is_left_to_the_loss():
    host = LateFusion(['rgb', 'depth'], 4, **PARTS)
    assert host(INPUTS, target=torch.full((2, 4), 0.25), mode='loss')['loss_task'].isfinite()
