"""How a behavior update runs: rows of D kept ready, and gradients written out."""
