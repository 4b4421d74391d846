"""BoulderPush."""
