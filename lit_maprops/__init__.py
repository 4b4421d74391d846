"""MA-PROPS: centralized adaptive sampling for cooperative multi-agent reinforcement learning (arXiv 2508.01049)."""

__version__ = "0.1.0"
