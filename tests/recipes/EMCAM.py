ORDERED = True  # the order of the modalities makes partners
HOSTS = ('EncoderDecoder', 'LateFusion', 'MAIL', 'MAILSeg')
