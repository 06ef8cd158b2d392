"""The teacher of MMANet on CASIA-SURF: the network of SF-MD on complete samples."""

_base_ = './sfmd_casia_surf.py'
plugins = []
test_cfg = dict(subsets='full')
