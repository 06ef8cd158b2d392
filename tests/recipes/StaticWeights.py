VARIANTS = [{'factors': {'rgb': 0.5}}, {'factors': {'rgb': 0.0}, 'apply': 'lr'}]
