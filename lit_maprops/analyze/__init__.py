"""``python -m lit_maprops analyze``: bias and variance of the policy gradient at a checkpoint, sampler by sampler."""
