"""How many seeds: the command ``plan`` without the command line. Torch is not needed."""
