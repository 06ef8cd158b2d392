ORDERED = True  # the order of the modalities makes partners
