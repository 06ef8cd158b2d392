"""The baseline with one fixed factor for each branch: the control of every adaptive method."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='StaticWeights', factors=dict(rgb=0.5, depth=1.28, ir=1.27))]
