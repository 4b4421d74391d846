"""Compiled kernels: how they are built, and the arithmetic that they share. Each kernel lies beside its oracle."""
