BLIND = True
VARIANTS = [{'mine': (0, 1), 'start_epoch': 1}]
