"""Multi-agent environments of TorchRL."""
