"""One-step games: payoffs of discrete actions, and a landscape of continuous ones."""
