"""Small blocks for small inputs."""

BLIND = True
VARIANTS = [{'block': 4}]
