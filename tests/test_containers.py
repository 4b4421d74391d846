"""Dockerfile, compose file and locks: read, linted and compared here; `make docker-check` executes the build."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lit_maprops.cli.main import main

BIN = Path(sys.executable).parent
LOCKS = {name: ROOT / f"requirements{name}.lock" for name in ("", "-cpu", "-gpu")}
SECRET = re.compile(r"key|token|secret|passw|credential|netrc|auth", re.IGNORECASE)

Instruction = tuple[str, str]


def stages() -> dict[str, list[Instruction]]:
    """Each stage of the Dockerfile by name: its instructions with their arguments; FROM comes first."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[Instruction]] = {"": []}
    for line in filter(None, text.splitlines()):
        keyword, _, arguments = line.partition(" ")
        if keyword == "FROM":
            found[arguments.split()[-1]] = []
        found[list(found)[-1]].append((keyword, " ".join(arguments.split())))
    return found


STAGES = stages()
EVERYTHING = [instruction for stage in STAGES.values() for instruction in stage]


def lineage(name: str) -> list[Instruction]:
    """All instructions that make an image, those of the stages it starts from first."""
    parent = STAGES[name][0][1].split()[0]
    return (lineage(parent) if parent in STAGES else []) + STAGES[name]


def locked(name: str) -> dict[str, tuple[Version, int]]:
    """The packages of a lock: version and number of hashes."""
    blocks = re.split(r"\n(?=\S)", re.sub(r"^ *#.*\n", "", LOCKS[name].read_text(), flags=re.MULTILINE))
    pins = (re.match(r"([\w.-]+)==(\S+) ", block) for block in blocks)
    found = zip(pins, blocks, strict=True)
    return {canonicalize_name(p[1]): (Version(p[2]), b.count("--hash=sha256:")) for p, b in found if p}


def required(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(line)
        for line in sum((project["optional-dependencies"][e] for e in extras), project["dependencies"])
    ]


def compose(profile: str, **env: str) -> dict[str, object]:
    """The one service of a profile, as compose itself reads the file."""
    command = [BIN / "docker-compose", "--profile", profile, "config", "--format", "json"]
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    result = subprocess.run(command, cwd=ROOT, env=clean | env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "level=warning" not in result.stderr
    return json.loads(result.stdout)["services"][profile]


def test_hadolint_has_nothing_to_say() -> None:
    result = subprocess.run([BIN / "hadolint", "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_stages_start_from_each_other_or_from_a_pinned_image() -> None:
    arguments = dict(text.split("=", 1) for keyword, text in STAGES[""] if keyword == "ARG")
    earlier: set[str] = set()
    for name, instructions in list(STAGES.items())[1:]:
        parent = instructions[0][1].split()[0]
        image = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], parent)
        assert parent in earlier or re.search(r":\d+\.\d+\.\d+-slim-\w+$", image), parent
        earlier.add(name)
    assert list(STAGES)[-1] == "cpu"  # what a build without --target makes


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_images_run_the_program_as_an_ordinary_user(target: str) -> None:
    last = dict(lineage(target))
    assert json.loads(last["ENTRYPOINT"]) == ["python", "-m", "lit_maprops"]
    assert last["USER"] == "${UID}"
    assert last["ARG"] == "UID=1000"
    assert json.loads(last["VOLUME"]) == ["/runs"]
    assert last["RUN"] == "python -m lit_maprops health --fit"  # the last thing a build does, as that user


def test_health_check_is_a_command_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    check = json.loads(dict(lineage("cpu"))["HEALTHCHECK"].partition("CMD ")[2])
    assert check[:3] == ["python", "-m", "lit_maprops"]
    assert main(check[3:]) == 0
    assert capsys.readouterr().out.startswith("healthy: ")


def test_targets_differ_in_torch_only() -> None:
    assert STAGES["cpu"][1:] == STAGES["gpu"][1:]
    assert (STAGES["cpu"][0][1], STAGES["gpu"][0][1]) == ("torch-cpu AS cpu", "torch-gpu AS gpu")


def test_whatever_is_installed_is_pinned() -> None:
    runs = [text for keyword, text in EVERYTHING if keyword == "RUN"]
    for install in re.findall(r"pip install [^&]+", " && ".join(runs)):
        assert "--no-deps" in install
        assert "--require-hashes" in install or install.rstrip().endswith("/wheels/*.whl"), install
    for install in re.findall(r"apt-get install ([^&]+)", " && ".join(runs)):
        packages = [word for word in install.split() if not word.startswith("-")]
        assert packages
        assert all("=" in package for package in packages), install


def test_code_comes_after_packages() -> None:
    for target in ("cpu", "gpu"):
        steps = lineage(target)
        locks = [i for i, (_, text) in enumerate(steps) if "--require-hashes" in text]
        code = [i for i, (keyword, text) in enumerate(steps) if keyword == "COPY"]
        assert max(locks) < min(code)


def test_no_secret_is_named() -> None:
    for keyword, text in EVERYTHING:
        if keyword in ("ARG", "ENV", "COPY", "ADD", "LABEL"):
            assert not SECRET.search(text), text


def test_context_is_what_the_dockerfile_takes_from_it() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copies = [text.split()[:-1] for keyword, text in EVERYTHING if keyword == "COPY" and "--from=" not in text]
    copied = {name for names in copies for name in names}
    bound = {f for _, text in EVERYTHING for f in re.findall(r"type=bind,source=([\w.*-]+)", text)}
    assert bound == {path.name for path in LOCKS.values()}
    assert allowed == copied | {"requirements*.lock"}


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    pins = locked(name)
    assert len(pins) == len(re.findall(r"^\S+==", LOCKS[name].read_text(), flags=re.MULTILINE)) > 8
    assert all(hashes for _, hashes in pins.values())


@pytest.mark.parametrize("target", ["-cpu", "-gpu"])
def test_locks_agree_with_pyproject_and_each_other(target: str) -> None:
    common, torch = locked(""), locked(target)
    assert "torch" not in common
    for requirement in required("media", "report", "continuous", "envs", "export"):
        found, _ = (common | torch)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(found), requirement
    assert all(common[name][0] == torch[name][0] for name in common.keys() & torch.keys())
    assert torch["torch"][0].local == ("cpu" if target == "-cpu" else None)
    assert torch["torch"][0].public == locked("-cpu")["torch"][0].public


def test_tests_run_on_the_locked_versions() -> None:
    different = {}
    for name, (pin, _) in locked("").items():
        if name == "importlib-metadata":  # mlflow, which only the tests have, wants an older one
            continue
        try:
            found = Version(version(name))
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        if found != pin:
            different[name] = (str(found), str(pin))
    assert not different, "installed and locked: run `make setup` in a new .venv, or `make lock`"


@pytest.mark.parametrize("profile", ["run", "agents", "multi-gpu"])
def test_compose_services_keep_their_runs(profile: str) -> None:
    service: dict = compose(profile, RUNS_DIR="/data", RUN_UID="7", RUN_GID="8")
    assert service["build"]["target"] == service["image"].partition(":")[2] == ("gpu" if "gpu" in profile else "cpu")
    assert [(v["source"], v["target"]) for v in service["volumes"]] == [("/data", "/runs")]
    assert service["user"] == "7:8"
    assert service["init"] is True
    assert service["stop_grace_period"] == "5m0s"
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("profile", ["run", "agents", "multi-gpu"])
def test_compose_services_have_limits(profile: str) -> None:
    """One container can neither fill its machine nor change its image."""
    for env, limit in (({}, (64 if profile == "multi-gpu" else 16) * 2**30), ({"MEMORY_LIMIT": "3g"}, 3 * 2**30)):
        service: dict = compose(profile, **env)
        assert service["read_only"] is True and int(service["mem_limit"]) == limit and service["pids_limit"] == 4096
        written = {mount.partition(":")[0] for mount in service["tmpfs"]}
        assert written == {"/tmp", "/home/maprops"}
        # Docker mounts them noexec unless told otherwise, and nothing that was compiled could be loaded.
        assert all("exec" in mount.partition(":")[2].split(",") for mount in service["tmpfs"])
        assert [volume["target"] for volume in service["volumes"]] == ["/runs"]


def test_compose_takes_keys_from_the_calling_shell_only() -> None:
    content = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for service in content["services"].values():
        assert service["environment"]["WANDB_API_KEY"] is None
    assert compose("agents", WANDB_API_KEY="abc")["environment"]["WANDB_API_KEY"] == "abc"
    assert compose("agents")["environment"]["WANDB_API_KEY"] is None


@pytest.mark.parametrize("profile", ["run", "multi-gpu"])
def test_compose_commands_name_what_exists(profile: str) -> None:
    command = list(map(str, compose(profile)["command"]))
    assert command[:2] == ["fit", "--config"]
    assert (ROOT / command[2]).is_file()


def test_compose_asks_for_as_many_gpus_as_the_fit_uses() -> None:
    service: dict = compose("multi-gpu", DEVICES="4")
    assert service["command"][-4:] == ["--trainer.accelerator", "gpu", "--trainer.devices", "4"]
    [device] = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 4, ["gpu"])


def test_compose_agents_work_on_the_sweep_they_are_given(tmp_path: Path) -> None:
    service: dict = compose("agents", AGENTS="3", SWEEP_ID="team/project/abc")
    assert service["deploy"]["replicas"] == 3
    program = tmp_path / "wandb"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    command = [part.replace("$$", "$") for part in service["entrypoint"]]  # `config` prints dollars doubled
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    given = subprocess.run(command, env=path | {"SWEEP_ID": "team/project/abc"}, capture_output=True, text=True)
    assert given.stdout == "agent --forward-signals team/project/abc\n"
    missing = subprocess.run(command, env=path, capture_output=True, text=True)
    assert missing.returncode != 0
    assert "set SWEEP_ID" in missing.stderr


def test_wandb_agents_can_hand_signals_on() -> None:
    from wandb.cli.cli import agent

    assert any("--forward-signals" in option.opts for option in agent.params)
