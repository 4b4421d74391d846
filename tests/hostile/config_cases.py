"""Hostile configurations: the shipped files and command lines, mutated by hypothesis."""

from conftest import ROOT
from hypothesis import strategies as st

FILES = sorted((ROOT / "conf").glob("*.yaml"))
CONTENTS = {path.stem: path.read_bytes() for path in FILES}
HARMFUL = "import pathlib; pathlib.Path('canary').touch()"

# YAML of values that belong nowhere.
SCALARS = [
    "null", "~", "true", "no", "''", "-1", "0", "1", "2", "3", "0.5", "-0.0", "1" + "0" * 30, "-1" + "0" * 30,
    "1e400", "1e-320",
    ".nan", ".inf", "-.inf", "nan", "0x10", "1_0", "0o17", "1:30", "2026-01-01", "=", "?", "!", "-", "...", "---",
    "[", "{", "%",
    "@a", "`a`", "'a", '"a', '"a\\nb"', '"\\e[31mred\\e[0m"', '"\\0"', '"\\u202eright"', "\u00e9\u6f22\u5b57",
    "\U0001f600", "x" * 5000,
    "/etc/passwd", "conf/matrix_game.yaml", "../..", "http://127.0.0.1:9/x", "a b  c", "$HOME", "$(touch canary)",
    "`touch canary`",
    "; touch canary", "{}", "[]", "[[]]", "[1, [2, [3, null]]]", "{a: 1}", "{1: 2}", "{null: 1}", "{? [1, 2] : 3}",
    "[null]", "['a']",
    "[-1]", "[0]", "[.nan]", "[1.5]", "[" * 40 + "]" * 40, "{a: " * 40 + "1" + "}" * 40, "[" * 3000 + "]" * 3000,
]  # fmt: skip
TAGS = [
    f"!!python/object/apply:builtins.exec [\"{HARMFUL}\"]", "!!python/object/apply:os.system ['touch canary']",
    "!!python/object/new:subprocess.Popen [['touch', 'canary']]", "!!python/name:os.system",
    "!!python/module:antigravity",
    "!!binary aGVsbG8=", "!!binary '***'", "!!timestamp x", "!!set {a, b}", "!!omap [a: 1]", "!!int x", "!!float x",
    "!!bool x", "!own 3",
    "!!null x", "!!str 3", "&a [*a]", "&a {a: *a}", "*nowhere", "{<<: 3}", "{<<: [1]}", "{<<: {num_seeds: -1}}", "&b 1",
]  # fmt: skip
INTERPOLATIONS = [
    "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "${oc.env:NO_SUCH_VARIABLE,3}", "${model}", "${model.num_seeds}",
    "${.}", "${..}",
    "${data.env}", "${model.behavior}", "${model.learner.init_args}", "${", "${}", "$}", "${a:b}", "${a.b.c}",
    "${oc.decode:'[1,'}",
    "${oc.create:{a: 1}}", "${oc.select:model.num_seeds}", "${oc.dict.keys:model}", "${oc.deprecated:model.num_seeds}",
    "a${model.num_seeds}b", "\\${model}", "${model.num_seeds", "???", "${oc.env:'HOME'}", "${${model.num_seeds}}",
]  # fmt: skip
CLASSES = [
    "{class_path: os.system, init_args: {command: touch canary}}", "os.system", "subprocess.Popen", "builtins.eval",
    "{class_path: subprocess.Popen, init_args: {args: [touch, canary]}}",
    "{class_path: subprocess.run, init_args: {args: [touch, canary]}}",
    f'{{class_path: builtins.exec, init_args: {{source: "{HARMFUL}"}}}}', "{class_path: builtins.print}",
    "{class_path: pathlib.Path, init_args: {args: canary}}", "{class_path: lit_maprops.module.LitMAPROPS}",
    "{class_path: lit_maprops.envs.Task}", "{class_path: Learner}",
    "{class_path: lit_maprops.behavior.BehaviorPolicy}", "{class_path: null}",
    "{class_path: 3}", "{class_path: ''}", "{class_path: ../x}", "{class_path: a.b.c}", "{class_path: .}",
    "{init_args: {}}",
    "{class_path: MAPROPS, init_args: 3}", "{class_path: MAPROPS, init_args: {a: 1}}",
    "{class_path: MAPROPS, dict_kwargs: {a: 1}}",
    "{class_path: OnPolicy, init_args: {draws: 3}}", "{class_path: MAPROPS, other: 3}",
    "{class_path: [MAPROPS]}", "MatrixGame", "VMAS",
    "{class_path: IPPO, init_args: {class_path: IPPO}}", "{class_path: MatrixGame, init_args: {payoff: [[1, 2], [3]]}}",
    "{class_path: PettingZoo, init_args: {name: os}}", "{class_path: PettingZoo, init_args: {name: ../x}}",
    "{class_path: TorchRL, init_args: {name: os.system, options: {command: touch canary}}}", "{class_path: TorchRL}",
    "{class_path: Reinforce}",
    "{class_path: torch.nn.Linear, init_args: {in_features: 1, out_features: 1}}",
    "{class_path: torch.load, init_args: {f: x}}",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(SCALARS),
    st.sampled_from(TAGS),
    st.sampled_from(INTERPOLATIONS),
    st.sampled_from(CLASSES),
    st.integers(-3, 12).map(str),
    st.floats().map(repr),
    st.text(max_size=12).map(repr),
)


def _lines(stem: str) -> list[str]:
    """``key: value`` lines of a shipped file, without comments."""
    return [line.split(" #")[0].rstrip() for line in CONTENTS[stem].decode().splitlines() if ":" in line.split("#")[0]]


@st.composite
def edited_lines(draw: st.DrawFn) -> bytes:
    """A shipped file with one to three lines mutated: value replaced, key misspelt, line doubled, gone, moved."""
    lines = _lines(draw(st.sampled_from(sorted(CONTENTS))))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        key, _, value = lines[place].partition(":")
        kind = draw(st.sampled_from(["value"] * 6 + ["key", "double", "drop", "indent", "both", "item"]))
        if kind == "value":
            lines[place] = f"{key}: {draw(VALUES)}"
        elif kind == "key":
            inner = key.strip()
            at = draw(st.integers(0, len(inner)))
            odd = draw(
                st.sampled_from(
                    ["x", "", "-", ".", " ", "_", "\u00e9", "'", "init_args", "\t", "class_path", "__class__", "$", "*"]
                )
            )
            lines[place] = f"{key[: len(key) - len(inner)]}{inner[:at]}{odd}{inner[at + 1 :]}:{value}"
        elif kind == "double":
            lines.insert(place, lines[place])
        elif kind == "drop" and len(lines) > 1:
            del lines[place]
        elif kind == "indent":
            lines[place] = draw(st.sampled_from([" ", "   ", "\t", ""])) + lines[place].strip()
        elif kind == "both":
            lines.insert(place, f"{key}: {draw(VALUES)}")
        elif kind == "item":
            lines[place] = f"{key[: len(key) - len(key.strip())]}- {key.strip()}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def edited_bytes(draw: st.DrawFn) -> bytes:
    """A shipped file cut, with bytes changed or put in, or in another encoding."""
    content = CONTENTS[draw(st.sampled_from(sorted(CONTENTS)))]
    place = draw(st.integers(0, len(content)))
    junk = draw(
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from([b"\xff\xfe", b"\x00", b"\xef\xbb\xbf", b"\r", b"\t", b"\x85"]),
        )
    )
    return draw(
        st.sampled_from(
            [
                content[:place],
                content[place:],
                content[:place] + junk + content[place:],
                content[:place] + junk + content[place + len(junk) :],
                b"\xef\xbb\xbf" + content,
                content.replace(b"\n", b"\r\n"),
                content.replace(b"\n", b"\r"),
                content.decode().encode("utf-16"),
                content.decode().encode("utf-32"),
                content + b"\n---\n" + content,
                content + content,
                junk,
                b"",
            ]
        )
    )


# Every field of the program, of its classes and some of the trainer.
FIELDS = sorted(
    {
        *(f"model.{k}" for k in ("num_seeds", "first_seed", "total_env_steps", "eval_interval", "eval_episodes",
        "solved_threshold")),
        *(f"model.{k}" for k in ("sampling_error", "sampling_error_interval", "checkpoint_interval", "run_seed",
        "behavior", "learner")),
        *(f"data.{k}" for k in ("env", "num_envs", "behavior_batch_size", "target_batch_size", "history_batches",
        "history")),
        *(f"model.behavior.{k}" for k in ("clip_epsilon", "kl_cutoff", "epochs", "minibatches", "hidden", "compile",
        "max_states")),
        *(f"model.learner.{k}" for k in ("learning_rate", "gamma", "hidden", "clip_epsilon", "share_parameters",
        "initial_std")),
        *(f"data.env.{k}" for k in ("payoff", "n_agents", "n_actions", "rewards", "size", "max_steps", "name",
        "squash", "options")),
        *(f"trainer.{k}" for k in ("devices", "accelerator", "max_epochs", "callbacks", "logger", "strategy",
        "profiler", "plugins")),
        *(f"trainer.{k}" for k in ("precision", "default_root_dir", "deterministic", "benchmark", "detect_anomaly",
        "num_nodes")),
        *("seed_everything", "run_name", "runs_dir", "wandb", "config", "ckpt_path", "trainer", "model", "data",
        "help", "print_config"),
    }
)  # fmt: skip
FORMS = [
    "--{0}={1}",
    "--{0} {1}",
    "--{0}",
    "-{0}={1}",
    "{0}={1}",
    "--{0}+={1}",
    "--{0}.x={1}",
    "--{0}.init_args.x={1}",
    "--{0}.class_path={1}",
]


@st.composite
def flags(draw: st.DrawFn) -> list[str]:
    """A shipped file by name and one to three hostile options."""
    words = ["--config", str(draw(st.sampled_from(FILES)))] if draw(st.integers(0, 9)) else []
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.sampled_from(FIELDS))
        if draw(st.integers(0, 5)) == 0:  # misspelt, abbreviated
            field = draw(
                st.sampled_from([field[:-1], field[:-2], field + "x", field.upper(), field.replace("_", "-"), ""])
            )
        value = draw(VALUES)
        form = draw(st.sampled_from(FORMS[:2] * 4 + FORMS))
        words += form.format(field, value).split(" ", 1) if form == "--{0} {1}" else [form.format(field, value)]
    words += draw(
        st.sampled_from([[]] * 8 + [["--"], ["-"], ["--", "x"], ["x"], [""], ["--config"], ["-c"], ["--config="]])
    )
    return words


@st.composite
def one_flag(draw: st.DrawFn) -> tuple[list[str], str]:
    """A command line in which one option alone is hostile, and the name of it."""
    field = draw(st.sampled_from([field for field in FIELDS if field not in ("help", "print_config", "config")]))
    conf = draw(st.sampled_from(["matrix_game", "boulderpush"]))
    return ["--config", f"conf/{conf}.yaml", f"--{field}={draw(VALUES)}"], field
