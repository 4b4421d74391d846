"""``python -m lit_maprops analyze --ckpt_path C``."""

import math
import sys
from argparse import Namespace

from lit_maprops.cli.parser import Parser, classes_of
from lit_maprops.system.console import stopped_at_once
from lit_maprops.system.errors import check, check_count
from lit_maprops.system.files import home_path
from lit_maprops.system.loading import loading
from lit_maprops.system.outputs import check_output

DESCRIPTION = """Bias, variance and mean squared error of the policy gradient at a checkpoint, for on-policy sampling,
the checkpoint's own behavior policy and others, against the exact gradient (matrix games) or that of many on-policy
batches; and how far the returns in D are off, with and without importance weights."""


def _parse(args: list[str]) -> Namespace | None:
    parser = Parser("analyze", DESCRIPTION)
    parser.add_argument("--ckpt_path", required=True, type=home_path, metavar="FILE", help="checkpoint of a run folder")
    parser.add_argument(
        "--batches", type=int, default=16, metavar="K", help="batches per seed and sampler (default: 16)"
    )
    parser.add_argument(
        "--batch_size", type=int, metavar="N", help="env steps per seed and batch (default: the run's n)"
    )
    parser.add_argument(
        "--samplers",
        nargs="*",
        default=[],
        metavar="NAME",
        help="also these, with default settings: names or import paths",
    )
    parser.add_argument(
        "--reference_batches", type=int, default=128, metavar="M", help="on-policy batches (default: 128)"
    )
    parser.add_argument(
        "-o", "--output", type=home_path, metavar="FILE", help="default: gradients.json in the run's folder"
    )
    parser.add_classes()
    return parser.parsed(args)


def run(args: list[str]) -> int:
    """Analyze, print the table, write a JSON and a CSV file; returns the exit code.

    Raises:
        ConfigError: bad input, found before anything is written.
    """
    options = _parse(args)
    if options is None:
        return 0
    check(options.batches >= 2, f"--batches is {options.batches}: give at least 2, a variance needs them")
    check_count("batches", options.batches)
    check(options.reference_batches >= 2, f"--reference_batches is {options.reference_batches}: give at least 2")
    check_count("reference_batches", options.reference_batches)

    # Only now: these import torch.
    with stopped_at_once(), loading():
        from lit_maprops.analyze.analysis import analyze, reference_of
        from lit_maprops.analyze.subject import load, samplers_of
        from lit_maprops.run.option_classes import packages_in, trusting

    # A package that the user names here is trusted, as one that a class's flag names.
    named = trusting(packages_in(" ".join(options.samplers)))
    subject = load(options.ckpt_path, [*classes_of(options), *named])
    samplers = samplers_of(subject, options.samplers)
    steps, m = options.batch_size or subject.target_batch_size, subject.behavior_batch_size
    check(
        options.batch_size is None or options.batch_size > 0, f"--batch_size is {options.batch_size}: give at least 1"
    )
    check_count("batch_size", steps, 10**9)
    check(steps % m == 0, f"--batch_size is {steps}: make it a multiple of the run's m, {m}")
    length = subject.learner.sequence_length
    if length is not None:
        whole = math.lcm(m, length * subject.num_envs)
        told = f"--batch_size is {steps}: the run's policies remember, and learn from sequences of {length} steps of "
        check(steps % whole == 0, f"{told}each of {subject.num_envs} environments: make it a multiple of {whole}")
    check(steps > 1, "--batch_size is 1: give at least 2, an advantage needs a second step to compare with")
    output = options.output or subject.folder / "gradients.json"
    check_output("<output>", output, output.with_suffix(".json"), output.with_suffix(".csv"))

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    reference = reference_of(subject, steps, options.reference_batches, say)
    result = analyze(subject, samplers, options.batches, steps, reference, say)
    result.write(output)
    print(result.table())
    print(f"analyze: written to {output.with_suffix('.json')} and .csv", file=sys.stderr)
    return 0
