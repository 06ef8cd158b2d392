HOSTS = ('LateFusion',)
PART_OF = 'EMCAM'
