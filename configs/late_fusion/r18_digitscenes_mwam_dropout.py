"""The baseline with MWAM and modality dropout."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='MWAM'), dict(type='ModalityDropout', mode='subsets')]
