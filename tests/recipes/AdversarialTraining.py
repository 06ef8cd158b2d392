"""One step on inputs of any size."""

BLIND = True
VARIANTS = [{'attack': {'type': 'PGD', 'eps': 0.1, 'steps': 1, 'bounds': None}, 'clean': 0.25}]
