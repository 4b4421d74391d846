"""The distributions policies draw from: joint categoricals, Gaussians, and the families that tell them apart."""
