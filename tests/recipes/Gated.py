ORDERED = True  # one gate looks at all of them, in their order
