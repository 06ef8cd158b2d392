"""SF-MD on CASIA-SURF with OGM-GE, which compares light auxiliary heads."""

_base_ = './sfmd_casia_surf.py'
model = dict(aux_heads=True)
plugins = [dict(type='ModalityDropout', mode='subsets'), dict(type='OGMGE', alpha=0.3)]
