"""How many threads the seeds are shared out to."""

import torch

from lit_maprops.system.threads import asked_threads, chosen_by_us, cores


def worker_threads() -> int:
    """Torch's number of threads; where that is the command line's own choice of one, this process's share of the cores.

    A seed is one thread's from start to end: numbers do not depend on how many there are.
    """
    if not chosen_by_us() or torch.get_num_threads() != 1:
        return torch.get_num_threads()
    return asked_threads() or cores()
