"""Parallel environments of PettingZoo, Reacher among them."""
