HOSTS = ('EncoderDecoder', 'ISFuse', 'LateFusion')
VARIANT = {'pool': 2}
