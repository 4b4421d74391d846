"""Scenarios of VMAS."""
