"""A narrow MMANet on the test bench with MAR; its teacher would have to be trained first."""

_base_ = './sfmd_digitscenes.py'
model = dict(type='MMANet')
plugins = [dict(type='ModalityDropout', mode='subsets'), dict(type='MAR', mine=(0, 1), start_epoch=1)]
