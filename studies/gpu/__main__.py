"""Measures docs/evidence/gpu.md on a machine with a GPU, in under eight minutes: tests there, then GPU and CPU in turn.

Without a GPU it says so and changes nothing.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Trainer

from lit_maprops import engine
from lit_maprops.behavior import MAPROPS, BehaviorPolicy, OnPolicy, TabularMAPROPS
from lit_maprops.data import MultiAgentData
from lit_maprops.envs import BoulderPush
from lit_maprops.module import LitMAPROPS
from lit_maprops.native.build import why_none
from lit_maprops.stacked import graphs
from lit_maprops.targets import MAPPO
from studies import ROOT
from studies.page import machine, write

SECONDS = 420.0  # for everything; the last measurement may take longer
TEST_SECONDS = 120.0
CASE_SECONDS = 25.0  # of a measurement
SIZES = (64, 1024, 4096)
CPU_SEEDS = 64  # a CPU's time is proportional to seeds: more would only take longer
RUN_STEPS = 15_360  # env steps of a seed's run in conf/boulderpush_reliability.yaml
BATCH = 256  # env steps of an iteration
GPU = "GPU"
COLD = "no time to warm up"  # on a GPU the time then includes recording: the rate is a lower bound
WARM_UP = {"cuda": 2, "cpu": 1}  # iterations: an ordinary one, and one that records graphs

# What conf/boulderpush_reliability.yaml says; several environments where draws are shared out between them.
SAMPLERS: dict[str, tuple[Any, int]] = {
    "OnPolicy": (OnPolicy, 1),
    "OnPolicy, stratified": (lambda: OnPolicy(draws="stratified"), 8),
    "TabularMAPROPS": (TabularMAPROPS, 1),
    "MAPROPS": (lambda: MAPROPS(clip_epsilon=1.0, kl_cutoff=0.3, epochs=4, learning_rate=1e-2), 1),
}


@dataclass
class Case:
    """A measurement: a sampler and where it runs."""

    place: str
    sampler: str
    seeds: int
    device: str
    engine: str
    threads: int

    @property
    def name(self) -> str:
        """Of its column."""
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return self.place if self.place == GPU else f"{self.place}, {self.engine}, {threads}"


def started(case: Case) -> LitMAPROPS:
    """A run ready for its first iteration."""
    make, envs = SAMPLERS[case.sampler]
    behavior: BehaviorPolicy = make()
    learner = MAPPO(learning_rate=1e-3, gae_lambda=1.0, entropy_coeff=0.05, epochs=10, minibatches=2)
    forever = 10**6 * BATCH
    model = LitMAPROPS(behavior, learner, case.seeds, total_env_steps=forever, eval_interval=10**6, engine="torch")
    start = [[1, 3], [0, 4], [3, 4]]
    task = BoulderPush(penalty=0.003, push_direction="north", max_steps=20, start=start)
    model.prepare(MultiAgentData(task, num_envs=envs, behavior_batch_size=envs, target_batch_size=BATCH))
    device = torch.device(case.device)
    model.to(device)
    # Asked who listens to optimizers: nobody. Iterations go without it.
    model.trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    for part in (behavior, learner):
        if part.optimizer is not None:
            part.optimizer.reset_state()  # moments go along
    model.engines = engine.choose(case.engine, device, task, behavior, learner)
    model.on_fit_start()
    return model


def seconds_of(case: Case, limit: float) -> tuple[list[float], str]:
    """Of iterations, as many as fit into ``limit`` seconds, without those of the warm-up if there are others.

    Returns:
        Seconds of each, and a remark.
    """
    end, taken = perf_counter() + limit, list[float]()
    torch.set_num_threads(1)
    model = started(case)
    torch.set_num_threads(case.threads)
    warm_up = WARM_UP[torch.device(case.device).type]
    while not taken or perf_counter() + taken[-1] < end:
        begun = perf_counter()
        model.training_step(len(taken), len(taken))
        if case.device.startswith("cuda"):
            torch.cuda.synchronize()
        taken.append(perf_counter() - begun)
    return (taken[warm_up:], "") if len(taken) > warm_up else (taken[-1:], COLD)


def cases_of(device: str, sizes: Sequence[int]) -> list[Case]:
    """Sampler by sampler, GPU and CPU in turn."""
    cores, cases = len(os.sched_getaffinity(0)), []
    for sampler in SAMPLERS:
        native = [] if why_none() else [("native", 1), ("native", cores)][: 1 + (cores > 1)]
        on_cpu = [Case("CPU", sampler, min(CPU_SEEDS, max(sizes)), "cpu", *how) for how in [*native, ("torch", 1)]]
        on_gpu = [Case(GPU, sampler, seeds, device, "torch", 1) for seeds in sizes]
        cases += [case for pair in zip(on_gpu, on_cpu, strict=False) for case in pair]
        cases += on_gpu[len(on_cpu) :] + on_cpu[len(on_gpu) :]
    return cases


def measured(cases: Sequence[Case], seconds: float) -> list[dict[str, object]]:
    """A row for each case, in about ``seconds``: what would take longer has no rate, and says why."""
    end, rows = perf_counter() + seconds, []
    for number, case in enumerate(cases):
        row: dict[str, object] = {"sampler": case.sampler, "seeds": case.seeds, "where": case.name}
        left = (end - perf_counter()) / (len(cases) - number)
        row |= {"iterations": 0, "seconds": "", "seeds_per_second": "", "remark": "no time was left"}
        if left > 0:
            try:
                taken, remark = seconds_of(case, min(CASE_SECONDS, left))
                median = sorted(taken)[len(taken) // 2]
                rate = case.seeds * BATCH / RUN_STEPS / median
                row |= {"iterations": len(taken), "seconds": median, "seeds_per_second": rate, "remark": remark}
            except torch.OutOfMemoryError:
                row["remark"] = "out of memory"
        rows.append(row)
        print(row, flush=True)
        gc.collect()
        if case.device.startswith("cuda"):
            torch.cuda.empty_cache()
    return rows


def table(rows: Sequence[dict[str, object]]) -> str:
    """Rates by sampler and seeds: the GPU's, and those of the same sampler on the CPU."""
    where = dict.fromkeys(str(row["where"]) for row in rows)
    on_cpu = sorted((name for name in where if name != GPU), key=lambda name: ("torch" in name, name))
    of_cpu = {(row["sampler"], row["where"]): row["seeds_per_second"] for row in rows if row["where"] != GPU}
    lines = [
        "| sampler | seeds | GPU | " + " | ".join(f"{name} | GPU / it" for name in on_cpu) + " |",
        "|---|---|---|" + "---|---|" * len(on_cpu),
    ]
    for row in rows:
        if row["where"] == GPU:
            own, cells = row["seeds_per_second"], []
            least = "≥ " if row["remark"] == COLD else ""
            for name in on_cpu:
                other = of_cpu.get((row["sampler"], name), "")
                ratio = f"{least}{own / other:.2g}" if isinstance(own, float) and isinstance(other, float) else "-"
                cells += [_shown(other), ratio]
            shown = least + _shown(own) if own else str(row["remark"])
            lines.append(f"| {row['sampler']} | {row['seeds']:,} | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(rate: object) -> str:
    return f"{rate:.3g}" if isinstance(rate, float) else "-"


def tested() -> str:
    """The verdict on tests/test_device.py on the GPU."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_device.py", "-k", "test_a_gpu"]
    try:
        code = subprocess.run(command, cwd=ROOT, check=False, timeout=TEST_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return f"not finished in {TEST_SECONDS:.0f} seconds"
    return "passed" if code == 0 else "FAILED"


def study(device: str, name: str, sizes: Sequence[int], seconds: float, verdict: str) -> None:
    """Measure on ``device``, called ``name``, beside the CPU, and write table and page."""
    threads = torch.get_num_threads()
    try:
        rows = measured(cases_of(device, sizes), seconds)
    finally:
        torch.set_num_threads(threads)
    failed = [f"{function} could not be recorded ({reason})" for function, reason in graphs.FAILED.items()]
    write(
        "gpu",
        rows,
        gpu=name,
        tests=verdict,
        machine=machine().replace("one core of", "CPU cores:").replace(" per run", ""),
        graphs="; ".join(failed) or "all were recorded",
        cpu_seeds=min(CPU_SEEDS, max(sizes)),
        table=table(rows),
    )


def main() -> int:
    """Test, measure, write the page."""
    begun = perf_counter()
    if not torch.cuda.is_available():
        print("no GPU here: nothing to test or to measure")
        return 0
    verdict = tested()
    study("cuda:0", torch.cuda.get_device_name(), SIZES, SECONDS - (perf_counter() - begun), verdict)
    return int(verdict != "passed")


if __name__ == "__main__":
    sys.exit(main())
