ORDERED = True  # the head's weights stand in the order of the modalities
