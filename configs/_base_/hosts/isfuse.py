"""ISFuse as published, of a visible image in colours, whose luma it fuses, and an infrared one; images of 8 bits."""

model = dict(
    type='ISFuse',
    modalities=['vis', 'ir'],
    in_chans=dict(vis=3, ir=1),
    data_preprocessor=dict(std=dict(vis=255, ir=255)),
)
