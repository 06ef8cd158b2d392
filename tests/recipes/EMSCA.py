ORDERED = True  # the order of the modalities makes partners
HOSTS = ('LateFusion',)
PART_OF = 'EMCAM'
