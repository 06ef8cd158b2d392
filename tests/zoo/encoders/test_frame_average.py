"""Frames of a video through an encoder of images."""

import pytest
import torch

from registry import ENCODERS, HOSTS, InputError


def test_the_vector_of_a_clip_is_the_mean_over_its_frames():
    encoder = ENCODERS.build(dict(type='FrameAverage', encoder='test_resnet', in_chans=2)).eval()
    x = torch.randn(3, 2, 4, 24, 32)
    with torch.no_grad():
        expected = torch.stack([encoder.encoder(x[:, :, t]) for t in range(4)]).mean(0)
        torch.testing.assert_close(encoder(x), expected)
        assert torch.equal(encoder(x[:, :, 0]), encoder.encoder(x[:, :, 0]))
    assert encoder.out_channels == 96
    assert encoder(x[:0]).shape == (0, 96)


@pytest.mark.parametrize('frames', [1, 3])
def test_a_host_of_sound_and_frames_trains_every_parameter(frames):
    visual = dict(type='FrameAverage', encoder='test_resnet')
    host = HOSTS.build(
        dict(
            type='LateFusion',
            modalities=['audio', 'visual'],
            num_classes=3,
            in_chans=dict(audio=1, visual=3),
            encoder=dict(audio='test_resnet', visual=visual),
            data_preprocessor=dict(mean=dict(visual=[124, 116, 104]), std=dict(visual=[58, 57, 57])),
        )
    )
    shape = (4, 3, frames, 32, 24) if frames > 1 else (4, 3, 32, 24)
    visual = torch.randint(0, 256, shape, dtype=torch.uint8)
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    data = dict(inputs={'audio': torch.randn(4, 1, 33, 40), 'visual': visual}, present=present)
    data = host.data_preprocessor({**data, 'target': torch.tensor([0, 1, 2, 0])})
    assert data['inputs']['visual'].shape == shape
    sum(host(**data, mode='loss').values()).backward()
    assert not [n for n, p in host.named_parameters() if p.grad is None]


def test_what_gives_no_vectors_or_no_frames_is_refused():
    with pytest.raises(InputError, match='FrameAverage takes an encoder of vectors, TimmPyramid gives maps'):
        ENCODERS.build(dict(type='FrameAverage', encoder=dict(type='TimmPyramid', model='test_resnet')))
    encoder = ENCODERS.build(dict(type='FrameAverage', encoder='test_resnet'))
    with pytest.raises(InputError, match=r'takes \(B, C, T, H, W\) or \(B, C, H, W\), got \(3, 24, 32\)'):
        encoder(torch.zeros(3, 24, 32))
