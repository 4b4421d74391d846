"""How many seeds a comparison takes, and when it is decided: statistics of shares and means alone, without torch."""
