"""The version, for files and for the command line; pyproject.toml has the same."""

__version__ = "0.1.0"
