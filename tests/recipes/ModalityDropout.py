VARIANTS = [{}, {'mode': 'subsets'}]
