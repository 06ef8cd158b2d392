"""MMANet on CASIA-SURF with MWAM on the gradients of its branches."""

_base_ = './mmanet_casia_surf.py'
plugins = [dict(type='MWAM'), *_base_.plugins]
