"""The multi-robot warehouse."""
