"""The baseline with modality dropout: each sample sees a random non-empty subset of its modalities."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='ModalityDropout', mode='subsets')]
