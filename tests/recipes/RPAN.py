"""Without noise, whose draws differ from pass to pass."""

BLIND = True
VARIANTS = [{'noise_std': 0.0, 'noise_mode': 'add'}]
