"""Any torch module stacked: one of its kind per seed (and agent), vmapped over all of them.

Slower than ``lit_maprops.stacked.mlp``, and as independent: every network has its own row of weights.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from lit_maprops.stacked.nets import StackedNet

PART_NUMBERS = 2**20  # inputs that a forward pass without gradients takes at once: convolutions make many of few


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside, what torch draws on the CPU without a generator is drawn from this one."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())


class StackedModule(StackedNet):
    """Modules of one kind, one per entry of ``stack``.

    Weights that need no gradient are kept as they are, beside the module's buffers.

    Args:
        make: makes one, with weights that torch's global generator fixes, ``[B, in_dim]`` to ``[B, out_dim]``.
        stack: leading dimensions of independence, ``(R,)`` or ``(R, A)``.
        generators: one per seed, ``stack[0]`` of them; they alone fix the initial weights.
    """

    def __init__(
        self, make: Callable[[], nn.Module], stack: tuple[int, ...], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.stack = stack
        made = []
        for generator in generators:
            with drawing_from(generator):
                made += [make() for _ in range(stack[1] if len(stack) > 1 else 1)]
        first = made[0]
        self._one = (first,)  # in a tuple: its weights are not ours
        learned = {name: weight for name, weight in first.named_parameters() if weight.requires_grad}
        self._shapes = {name: weight.shape for name, weight in learned.items()}
        rows = [[weight.detach().flatten().float() for weight in _named(module, learned)] for module in made]
        self.flat = nn.Parameter(torch.stack([torch.cat(row) for row in rows]).unflatten(0, stack))
        kept = [name for name, weight in first.named_parameters() if not weight.requires_grad]
        self._kept = [*kept, *dict(first.named_buffers())]
        for number, name in enumerate(self._kept):
            each = torch.stack([next(_named(module, [name])).detach().clone() for module in made])
            self.register_buffer(f"kept_{number}", each.unflatten(0, stack))

    def entry(self, *place: int) -> nn.Module:
        """A module with the weights of one entry of ``stack``, copies."""
        return self._with(self._tensors(self.flat[place], [b[place] for b in self.buffers()]))

    def _with(self, tensors: dict[str, Tensor]) -> nn.Module:
        """A module with copies of tensors, by their names in it."""
        module = copy.deepcopy(self._one[0])
        for name, tensor in tensors.items():
            next(_named(module, [name])).data.copy_(tensor.detach())
        return module

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """Without gradients many rows go through in parts, so that not all of D's activations are there at once."""
        return self._of_each(self._output, inputs).unflatten(0, self.stack)

    def _of_each(self, output: Callable[[Tensor, list[Tensor], Tensor], Tensor], inputs: Tensor) -> Tensor:
        """What ``output`` of every network's weights says for its rows: ``[*stack, B, in_dim] -> [G, B, .]``."""
        x, depth = inputs.flatten(0, len(self.stack) - 1), len(self.stack) - 1
        flat, kept = self.flat.flatten(0, depth), [buffer.flatten(0, depth) for buffer in self.buffers()]
        each = torch.vmap(output, randomness="error")
        rows = max(1, x.shape[1])
        if not torch.is_grad_enabled() and x.numel() > PART_NUMBERS:
            rows = max(1, rows // -(-x.numel() // PART_NUMBERS))
        outputs = [each(flat, kept, part.to(flat.dtype)) for part in x.split(rows, 1)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def _output(self, flat: Tensor, kept: list[Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self._one[0], self._tensors(flat, kept), (inputs,))

    def _tensors(self, flat: Tensor, kept: list[Tensor]) -> dict[str, Tensor]:
        """Of one network, by their names in the module."""
        parts = flat.split([shape.numel() for shape in self._shapes.values()])
        learned = {n: part.view(s) for (n, s), part in zip(self._shapes.items(), parts, strict=True)}
        return learned | dict(zip(self._kept, kept, strict=True))


def _named(module: nn.Module, names: Iterable[str]) -> Iterator[Tensor]:
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return (tensors[name] for name in names)
