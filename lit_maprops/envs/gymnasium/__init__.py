"""Multi-agent environments of Gymnasium."""
