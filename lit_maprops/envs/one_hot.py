"""Numbers as columns of zeros and ones, in observations of grids."""

import torch
from torch import Tensor


def one_hot(values: Tensor, first: int, end: int) -> Tensor:
    """``[*B] -> [*B, end - first]`` int8, columns from ``first`` on; zeros where the value is none of them."""
    columns = torch.arange(first, end, dtype=values.dtype, device=values.device)
    return (values.unsqueeze(-1) == columns).to(torch.int8)
