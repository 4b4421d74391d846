"""Policies that leave this package: ONNX and torch.export programs, and the JSON file that says how to use them."""
