VARIANTS = [{}, {'noise': False, 'apply': 'lr'}]
