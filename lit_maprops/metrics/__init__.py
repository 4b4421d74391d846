"""Figures of merit: sampling error of D and reliability over seeds."""
