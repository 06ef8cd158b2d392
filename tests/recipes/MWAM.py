VARIANTS = [{}, {'mode': 'hybrid'}, {'mode': 'loss'}, {'apply': 'lr', 'compat': 'code', 'gamma': 1.0}]
