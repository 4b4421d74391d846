"""A user's own module as a network: imported by its path, and tried before anything is trained with it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from lit_maprops.stacked.modules import StackedModule
from lit_maprops.system.entry_points import class_at, tried
from lit_maprops.system.errors import check
from lit_maprops.system.named_code import check_named

_ROWS = 5  # that a module is tried on
_OTHER_ROWS = 1, 64  # numbers of rows that it must treat as it treats these
_SCALES = torch.logspace(-4, 6, 64)  # of rows that it must leave as they are, whatever it makes of them
_NOT_ITS_OWN = (
    "has numbers that are no parameters or buffers of its own, such as layers in a list or outside of it, which would "
    "mix seeds"
)
_CLOSE = 1e-4  # of the largest output; rounding is far less, what one row does to another far more


class OwnNetwork:
    """Makes modules of a user's class, each for the inputs of one seed's agent.

    Args:
        argument: that names the class, for messages, without brackets.
        path: its import path; called with the numbers of inputs and outputs and ``args``, it gives a module that
            maps ``[B, in_dim]`` to ``[B, out_dim]`` float32, row by row.
        args: further arguments.
        as_floats: its buffers are kept in float32, so that all of a module is one row of numbers.

    Raises:
        ConfigError: there is no such class.
    """

    def __init__(self, argument: str, path: str, args: dict[str, Any], as_floats: bool = False) -> None:
        self.argument, self.path, self.args, self.as_floats = argument, path, args, as_floats
        check_named(f"<{argument}>", path)
        check("." in path, f"<{argument}> is {path!r}: give the import path of a torch module, such as my_nets.Small")
        self._class = class_at(argument, path, nn.Module)
        self._tried: set[tuple[int, int]] = set()

    def __call__(self, in_dim: int, out_dim: int) -> nn.Module:
        """A new module; its weights are drawn from torch's global generator.

        Raises:
            ConfigError: it cannot be made or used.
        """
        module = self._made(in_dim, out_dim)
        if self.as_floats:
            same = all(torch.equal(kept.float().to(kept.dtype), kept) for kept in module.buffers())
            self._check(same, "has a buffer with numbers that float32 does not hold")
        if (in_dim, out_dim) not in self._tried:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                self._try(in_dim, out_dim)
            self._tried.add((in_dim, out_dim))
        return module

    def _made(self, in_dim: int, out_dim: int) -> nn.Module:
        made, reason = tried(lambda: self._class(in_dim, out_dim, **self.args))
        self._check(not reason, f"cannot be made with {in_dim} inputs and {out_dim} outputs ({reason})")
        return made.float()

    def _check(self, sound: bool, fault: str) -> None:
        check(sound, f"<{self.argument}> is {self.path}, which {fault}: mend it, or leave the option out")

    def _try(self, in_dim: int, out_dim: int) -> None:
        """Whether it does what a network must, on random rows."""
        torch.manual_seed(1)
        self._made(in_dim, out_dim)
        after_other = torch.get_rng_state()
        torch.manual_seed(0)
        module = self._made(in_dim, out_dim)
        seeds = torch.equal(torch.get_rng_state(), after_other)
        self._check(not seeds, "seeds torch's generator itself, so that all seeds would start with the same weights")
        torch.manual_seed(0)
        again = self._made(in_dim, out_dim)
        self._try_weights(module, again)
        dropout = any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p for part in module.modules())
        self._check(not dropout, "has dropout, so what it puts out is another thing at every call")
        generator = torch.Generator().manual_seed(0)
        inputs = torch.rand(_ROWS, in_dim, generator=generator)
        drawn = torch.get_rng_state()
        output = self._output(module, inputs)
        draws = not torch.equal(torch.get_rng_state(), drawn)
        self._check_shape(output, (_ROWS, out_dim))
        kind = str(output.dtype).removeprefix("torch.")
        self._check(output.dtype == torch.float32, f"puts out {kind}, not float32")
        self._check(_close(self._output(module, inputs), output), "puts out other numbers for the same rows")
        self._check(not draws, "draws random numbers when it is called, which all seeds would share")
        self._try_rows(module, inputs[0], output[0], generator)
        wide = torch.randn(len(_SCALES), in_dim, generator=generator) * _SCALES.unsqueeze(1)
        self._called(module, torch.cat([torch.zeros(1, in_dim), wide]))
        self._check(_same(module, again), "changes its own buffers or weights when it is called")
        self._try_beside(module, inputs, output)
        self._try_stacked(again, inputs, output)

    def _try_rows(self, module: nn.Module, row: Tensor, output: Tensor, generator: torch.Generator) -> None:
        """Whether it puts out the same for a row at any place among any others, also among large ones."""
        for rows in (_ROWS, *_OTHER_ROWS):
            for place in {0, rows // 2, rows - 1}:
                others = torch.rand(rows, len(row), generator=generator)
                others[place] = row
                found = self._output(module, others)
                self._check_shape(found, (rows, len(output)))
                large = torch.where(torch.arange(rows).unsqueeze(1) == place, others, 100 * others)
                among_large, reason = self._called(module, large)  # which it need not know
                same = _close(found[place], output) and (bool(reason) or _close(among_large[place].detach(), output))
                self._check(same, "mixes the rows of a batch, such as BatchNorm")

    def _check_shape(self, output: Any, shape: tuple[int, int]) -> None:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        self._check(found == shape, f"puts out {found} for {shape[0]} rows, not {shape}")

    def _try_weights(self, module: nn.Module, again: nn.Module) -> None:
        """Whether it has weights, and the same ones from the same random numbers."""
        lazy = any(is_lazy(weight) for weight in (*module.parameters(), *module.buffers()))
        self._check(not lazy, "has lazy layers, whose weights are drawn only when it is called")
        learned = [weight for weight in module.parameters() if weight.requires_grad]
        self._check(bool(learned), "has no weights to train")
        self._check(_same(module, again), "draws its weights from elsewhere than torch's generator")

    def _try_beside(self, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        """Whether another seed's module is one of its own, and with these weights does what this one does."""
        torch.manual_seed(1)
        other = self._made(inputs.shape[1], output.shape[1])
        own, others = ({id(weight) for weight in each.parameters()} for each in (module, other))
        self._check(not own & others, "has weights that all of its instances share, which would mix seeds")
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        found, reason = tried(lambda: functional_call(other, state, (inputs,)).detach())
        self._check(not reason and _close(found, output), _NOT_ITS_OWN)

    def _called(self, module: nn.Module, inputs: Tensor) -> tuple[Any, str]:
        """What it puts out and, if it fails, why; refused if it writes to its inputs, which are rows of D."""
        before, version = inputs.view(torch.int32).clone(), inputs._version
        called = tried(lambda: module(inputs))
        # The version tells of a write that happens to change nothing here, the bits of one behind torch's back.
        same = inputs._version == version and torch.equal(inputs.view(torch.int32), before)
        self._check(same, "writes to its inputs, such as x.clamp_(), which would change the data of later updates")
        return called

    def _output(self, module: nn.Module, inputs: Tensor) -> Any:
        output, reason = self._called(module, inputs)
        self._check(not reason, f"fails on {len(inputs)} rows of {inputs.shape[1]} numbers ({reason})")
        if not isinstance(output, Tensor):
            return output
        self._check(output.requires_grad, "keeps gradients from its weights, such as by torch.no_grad or detach")
        own = {id(weight) for weight in module.parameters()}
        self._check(all(id(weight) in own for weight in _weights_of(output)), _NOT_ITS_OWN)
        return output.detach()

    def _try_stacked(self, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        def stacked() -> Tensor:
            net = StackedModule(lambda: module, (2,), [torch.Generator(), torch.Generator()])
            found = net(inputs.expand(2, -1, -1))
            found.sum().backward()
            return found.detach()

        found, reason = tried(stacked)
        self._check(not reason, f"torch.vmap cannot run for several seeds ({reason[:200]})")
        self._check(_close(found[1], output), "puts out other numbers under torch.vmap")


def _weights_of(output: Tensor) -> Iterator[Tensor]:
    """All that a gradient of ``output`` would be left at."""
    ahead, seen = [output.grad_fn], set[Any]()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [further for further, _ in node.next_functions]
            if hasattr(node, "variable"):
                yield node.variable


def _same(one: nn.Module, other: nn.Module) -> bool:
    state, others = (dict(each.named_parameters()) | dict(each.named_buffers()) for each in (one, other))
    return state.keys() == others.keys() and all(torch.equal(state[name], others[name]) for name in state)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs().max() <= _CLOSE * (1 + other.abs().max())).item())
