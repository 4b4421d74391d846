"""One agent's decentralized policy as a program of plain layers, and its two files.

A program knows no seeds, no padding and no randomness. It takes the agent's own observation, where legal actions depend
on the state, which of the agent's actions are legal, and of policies that remember what they do; the index that tells
agents with shared parameters apart is a constant, so it has become part of the first layer's bias.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.functional import one_hot

from lit_maprops.distributions import gaussian
from lit_maprops.envs import Task
from lit_maprops.envs.base import squashed
from lit_maprops.export.remembering import Remembering
from lit_maprops.stacked.modules import StackedModule
from lit_maprops.stacked.nets import StackedMLP, StackedNet
from lit_maprops.stacked.recurrent import RecurrentNet
from lit_maprops.system.errors import ConfigError
from lit_maprops.targets import TargetPolicies

INPUT, MASK, MEMORY, NEW_MEMORY = "observation", "action_mask", "memory", "new_memory"


class AgentPolicy(nn.Module):
    """pi_theta_i of one seed: observations ``[batch, O_i]`` float32 to ``outputs``, which are

    - with discrete actions ``log_prob`` ``[batch, N_i]`` (nats) and the most probable ``action`` ``[batch]`` int64;
    - with continuous ones ``mean`` and ``log_std`` ``[batch, D_i]`` before bounding, and ``action`` ``[batch, D_i]``:
      the mean as the environment executes it, in the units of ``Task.interface``.

    N_i, D_i and O_i count what the agent has, without padding. Of tasks whose states say which actions are legal there
    is a second input, ``action_mask`` ``[batch, N_i]`` bool: log-probabilities of the others are -inf. Policies that
    remember have as last input ``memory`` ``[batch, H]``, zeros before the first step of an episode, and as last output
    ``new_memory``, which is the next step's.

    Args:
        policies: of all seeds and agents.
        task: what they were trained in.
        seed: the seed's place in ``policies``.
        agent: the agent's index.

    Attributes:
        remembered: numbers that are carried from step to step, H; 0: none.
    """

    low: Tensor  # [D_i], in the environment's units
    high: Tensor

    def __init__(self, policies: TargetPolicies, task: Task, seed: int, agent: int) -> None:
        super().__init__()
        self.initial_std, self.squash = policies.initial_std, task.squash
        interface, exists = task.interface(agent), task.action_mask()[agent]
        self.family = type(task.family)(exists[exists].unsqueeze(0))  # of an agent who has nothing but its own actions
        self.continuous = task.continuous_actions
        self.masked = task.masks_actions
        self.inputs = [INPUT, MASK] if self.masked else [INPUT]
        self.outputs = ["mean", "log_std", "action"] if self.continuous else ["log_prob", "action"]
        self.n_observed, self.n_actions = len(interface.observation), len(interface.actions)
        rows = exists.repeat(2) if self.continuous else exists  # a network puts out means, then log stds
        self.remembered = 0
        if isinstance(policies.net, RecurrentNet):
            self.remembered = policies.net.cell.carried
            self.inputs, self.outputs = [*self.inputs, MEMORY], [*self.outputs, NEW_MEMORY]
        self.layers = _network(policies.net, task, seed, agent, self.n_observed, rows)
        self.register_buffer("low", torch.tensor(interface.low))
        self.register_buffer("high", torch.tensor(interface.high))

    def forward(
        self, observation: Tensor, action_mask: Tensor | None = None, memory: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The tensors named in ``outputs``.

        Raises:
            ConfigError: ``memory`` is not given, and the policy remembers.
        """
        if self.remembered and memory is None:
            raise ConfigError(
                f"<memory> is not given and the policy remembers: give zeros [{len(observation)}, {self.remembered}] "
                "before the first step of an episode, then what the step before gave last"
            )
        found = self.layers(observation, memory) if self.remembered else (self.layers(observation),)
        outputs = found[0].unsqueeze(1)  # [batch, 1, K]: families want a dimension of agents
        legal = None if action_mask is None else action_mask.unsqueeze(1)
        parameters = self.family.from_outputs(outputs, self.initial_std, legal)
        mode = self.family.mode(parameters).squeeze(1)
        if not self.continuous:
            return parameters.squeeze(1), mode, *found[1:]
        mean, log_std = gaussian.split(parameters.squeeze(1))
        return mean, log_std, self._executed(mode), *found[1:]

    def _executed(self, action: Tensor) -> Tensor:
        """Continuous actions ``[batch, D_i]`` before bounding, in the environment's units."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return (middle + half * squashed(action, self.squash)).clamp(
            self.low, self.high
        )  # rounding may leave the range

    def draw(
        self,
        observation: Tensor,
        generator: torch.Generator | None = None,
        action_mask: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> Tensor:
        """Actions drawn from the policy, shaped as the output ``action``.

        Args:
            observation: ``[batch, O_i]``.
            generator: None: torch's global one.
            action_mask: see above.
            memory: see above; what becomes of it is the same whatever is drawn.
        """
        if not self.continuous:
            log_prob = self(observation, action_mask, memory)[0]
            return torch.multinomial(log_prob.exp(), 1, generator=generator).squeeze(-1)
        mean, log_std, *_ = self(observation, None, memory)
        return self._executed(mean + log_std.exp() * torch.randn(mean.shape, generator=generator))

    def program(self) -> ExportedProgram:
        """The forward pass as a graph of PyTorch's own operators, for any ``batch``."""
        with _quiet():
            batch = Dim("batch")
            given = torch.zeros(2, self.n_observed), torch.ones(2, self.n_actions, dtype=torch.bool)
            dimensions = {name: {0: batch} for name in self.inputs}
            remembered = {MEMORY: torch.zeros(2, self.remembered)} if self.remembered else None
            seen = given[: 2 if self.masked else 1]
            return torch.export.export(self.eval(), seen, remembered, dynamic_shapes=dimensions)


def _network(net: StackedNet, task: Task, seed: int, agent: int, n_observed: int, rows: Tensor) -> nn.Module:
    """The agent's network, with the inputs it observes and the outputs ``rows`` ``[K]`` bool only.

    Args:
        net: of all seeds and agents.
        task: what it was trained in.
        seed: the seed's place in it.
        agent: the agent's index.
        n_observed: numbers that the agent observes.
        rows: of its outputs, those that it has.
    """
    if isinstance(net, RecurrentNet):
        every = torch.ones(net.cell.gates, dtype=torch.bool)
        return Remembering(_network(net.encoder, task, seed, agent, n_observed, every), net, (seed, agent), rows)
    if isinstance(net, StackedMLP):
        return nn.Sequential(*_layers(net, task, seed, agent, n_observed, rows))
    return _Whole(net, task, seed, agent, n_observed, rows)


def _layers(net: StackedMLP, task: Task, seed: int, agent: int, n_observed: int, rows: Tensor) -> Iterator[nn.Module]:
    """The agent's layers; arguments as ``_network``."""
    shared = len(net.stack) == 1
    entry = seed if shared else seed * task.n_agents + agent
    layers = [(weight[entry].detach(), None if bias is None else bias[entry].detach()) for weight, bias in net.layers()]
    for number, (weight, bias) in enumerate(layers):
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if number == 0:
            bias = bias + weight[:, task.observation_dim + agent] if shared else bias
            weight = weight[:, :n_observed]
        else:
            yield nn.Tanh()
        if number == len(layers) - 1:
            weight, bias = weight[rows], bias[rows]
        layer = nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        yield layer


class _Whole(nn.Module):
    """An agent's network of any other kind, around it what training appends to its observation and what it leaves out.

    Arguments as ``_network``.
    """

    beyond: Tensor  # padding, and who it is where parameters are shared
    places: Tensor  # of outputs

    def __init__(self, net: StackedNet, task: Task, seed: int, agent: int, n_observed: int, rows: Tensor) -> None:
        super().__init__()
        assert isinstance(net, StackedModule)
        shared = len(net.stack) == 1
        padding = torch.zeros(task.observation_dim - n_observed)
        who = one_hot(torch.tensor(agent), task.n_agents).float() if shared else torch.zeros(0)
        self.net = (net.entry(seed) if shared else net.entry(seed, agent)).requires_grad_(False)
        self.register_buffer("beyond", torch.cat([padding, who]))
        self.register_buffer("places", rows.nonzero().flatten())

    def forward(self, observation: Tensor) -> Tensor:
        """``[batch, O_i]`` to outputs."""
        beyond = self.beyond.expand(observation.shape[0], -1)
        outputs = self.net(torch.cat([observation, beyond], 1) if len(self.beyond) else observation)
        return outputs.index_select(1, self.places)


def write_torch(program: ExportedProgram, path: Path) -> None:
    """Write what ``torch.export.load`` reads, with no class of ours in it."""
    content = io.BytesIO()  # straight to a full disk, torch would end the process
    with _quiet():
        torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


def write_onnx(program: ExportedProgram, path: Path, outputs: list[str], inputs: Sequence[str] = (INPUT,)) -> None:
    """Write an ONNX file, weights inside; needs onnx and onnxscript."""
    with _quiet():
        onnx = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes={name: {0: "batch"} for name in inputs},
            external_data=False,
            verbose=False,
        )
        assert onnx is not None  # as it is without a file name
        onnx.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks of the exporters off the terminal."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
