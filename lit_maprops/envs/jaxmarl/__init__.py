"""Environments of JaxMARL."""
