"""The baseline with one fixed factor for each branch: the control of every adaptive method."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='StaticWeights', factors=dict(rgb=1.4, depth=0.5, ir=1.2))]
