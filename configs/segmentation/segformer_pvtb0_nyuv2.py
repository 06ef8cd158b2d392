"""A SegFormer-like pair on NYU-Depth V2: a pyramid transformer for each modality, SegFormer's decoder."""

_base_ = [
    '../_base_/datasets/nyuv2.py',
    '../_base_/hosts/deeplabv3plus_r18.py',
    '../_base_/schedules/adamw_poly_nyuv2.py',
    '../_base_/runtime/default.py',
]
model = dict(encoder=dict(_delete_=True, model='pvt_v2_b0', pretrained=True), head='smp.Segformer')
