"""The five kitchens of Carroll et al. 2019 (arXiv 1910.05789), as overcooked-ai has them.

``X`` counter, ``P`` pot, ``O`` onions, ``D`` dishes, ``S`` where soups are served, 1 and 2 the agents; spaces are free.
"""

LAYOUTS = {
    "cramped_room": ["XXPXX", "O  2O", "X1  X", "XDXSX"],
    "asymmetric_advantages": ["XXXXXXXXX", "O XSXOX S", "X   P 1 X", "X2  P   X", "XXXDXDXXX"],
    "coordination_ring": ["XXXPX", "X 1 P", "D2X X", "O   X", "XOSXX"],
    "forced_coordination": ["XXXPX", "O X1P", "O2X X", "D X X", "XXXSX"],
    "counter_circuit": ["XXXPPXXX", "X  2   X", "D XXXX S", "X  1   X", "XXXOOXXX"],
}
