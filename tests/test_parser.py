"""What the options of every command but fit, validate and test have in common."""

import pytest

from lit_maprops.cli.main import COMMANDS, TRAINING_COMMANDS, main
from lit_maprops.cli.parser import Parser

OTHERS = [name for name in COMMANDS if name not in TRAINING_COMMANDS]


@pytest.mark.parametrize("command", OTHERS)
def test_help_returns_and_wrong_options_are_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"{command} [-h]" in capsys.readouterr().out
    assert main([command, "a", "--output", "--no_such_option"]) == 2
    written = capsys.readouterr()
    [line] = written.err.splitlines()
    assert line.startswith("lit_maprops: error: ")
    assert f"{command} --help" in line or "need --fit" in line
    assert written.out == ""


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "no_conflict", "--max", "3"]) == 2
    assert "sweep: unrecognized arguments: --max 3" in capsys.readouterr().err


def test_former_names_are_accepted_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("sweep", "Nothing.")
    parser.add_argument("--max_runs", type=int, default=4)
    parser.add_former("--max-runs", "max_runs", type=int)
    given = [parser.parsed(words) for words in ([], ["--max_runs", "2"], ["--max-runs", "2"])]
    assert [options.max_runs for options in given if options] == [4, 2, 2]
    assert parser.parsed(["--help"]) is None
    assert "--max-runs" not in capsys.readouterr().out
    for command in OTHERS:
        main([command, "--help"])
    words = [word for word in capsys.readouterr().out.split() if word.strip("[,").startswith("--")]
    assert words and not [word for word in words if "-" in word.strip("[,").removeprefix("--")]


def test_a_sweep_takes_its_former_names(capsys: pytest.CaptureFixture[str]) -> None:
    for spelling in (["--max-runs", "0"], ["--max_runs", "0"]):
        assert main(["sweep", "no_conflict", "--retry-failed", "--runs-dir", "nowhere", *spelling]) == 2
        assert "--max_runs is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model: {num_sedes: 3}", "--model.num_sedes is not an option (did you mean num_seeds?): see --help"),
        ("model: {num_seeds: -3}", "--model.num_seeds is -3: give a value from 1 to 1,000,000"),
        (
            "data: {env: {class_path: BoulderPush, init_args: {max_stesp: 3}}}",
            "--data.env.max_stesp is not an option (did you mean max_steps?): see --help",
        ),
        ("model.learner.init_args.epochs: 0", "--model.learner.epochs is 0: give a value from 1 to 1,000,000"),
    ],
)
def test_an_option_that_a_file_has_given_names_the_file(content, says, tmp_path, capsys):
    """Of several files; not where a flag has given it."""
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    words = ["fit", "--config", "boulderpush", "--config", str(file), "--runs_dir", str(tmp_path / "runs")]
    assert main(words) == 2
    assert capsys.readouterr().err.strip() == f"lit_maprops: error: {says} (it stands in {file})"
    flag, *_ = says.split()
    assert main([*words, flag, "-1"]) == 2
    assert "it stands in" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--num_seeds", " (did you mean model.num_seeds?)"),
        ("--modle.num_seeds", " (did you mean model.num_seeds?)"),
        ("--model.behavior.num_envs", " (did you mean data.num_envs?)"),
        ("--data.epochs", " (did you mean model.behavior.epochs or model.learner.epochs?)"),
        ("--model.behavior.gae_lambda", " (did you mean model.learner.gae_lambda?)"),
        ("--model.behavior.adjustment.hidden", " of the chosen class"),
        ("--data.env.map_nam.size", " of the chosen class (did you mean map_name?)"),
    ],
)
def test_an_option_in_the_wrong_place_is_told_the_right_one(flag, says, tmp_path, capsys):
    assert main(["fit", "--config", "boulderpush", "--runs_dir", str(tmp_path), flag, "3"]) == 2
    assert capsys.readouterr().err.strip() == f"lit_maprops: error: {flag} is not an option{says}: see --help"
