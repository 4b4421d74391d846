"""``python -m lit_maprops autopsy``: why a seed failed, and whether it was sampling error."""
