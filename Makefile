# Every target works alone on a fresh clone: it makes .venv and installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# And an environment, which it makes if need be.
INSTALL = $(PYTHON) tests/bench/install.py
SWEEPS := 'sweeps>=0.3,<0.4' # alone: it asks for numpy below 2
.DEFAULT_GOAL := help
# Images set it to stay small; here every program of the tests would be compiled anew, a second each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: $(shell grep -ohE '^[a-z-]+:' $(firstword $(MAKEFILE_LIST)) | tr -d :)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-26s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## make .venv with everything the other targets need

# torch first and alone: with it in place the other packages do not pull another build (gigabytes of CUDA).
# The versions are those that the images install, so that the tests speak for them.
$(VENV)/.fits: pyproject.toml requirements.lock
	$(INSTALL) $(VENV) torch==2.13.0
	sed -n 's/^\([^ ]*==[^ ]*\) .*/\1/p' requirements.lock > $(VENV)/versions.txt
	$(INSTALL) $(VENV) -c $(VENV)/versions.txt -e '.[media]'
	@touch $@

$(VENV)/.installed: $(VENV)/.fits
	$(INSTALL) $(VENV) -c $(VENV)/versions.txt -e '.[dev]'
	grep -v '^importlib-metadata==' $(VENV)/versions.txt > $(VENV)/older.txt # mlflow asks for one before 10
	$(INSTALL) $(VENV) -c $(VENV)/older.txt 'mlflow-skinny>=3'
	$(INSTALL) $(VENV) --no-deps $(SWEEPS)
	$(INSTALL) $(VENV) -c $(VENV)/older.txt -e '.[jaxmarl]' || echo "no JaxMARL: its tests are skipped"
	@touch $@

fit: $(VENV)/.fits ## the main job: MA-PROPS + MAPPO on BoulderPush, 16 seeds; installs what it needs alone
	$(BIN)/python -m lit_maprops fit --config conf/boulderpush.yaml

# Each file in one process, in the order that tests/conftest.py gives.
FILES := -n auto --dist loadfile --no-loadscope-reorder

# The pretended device must be there before the first gradient, and forbids forks: a process of its own, which takes
# what the others, that often wait, leave of the cores.
test: setup ## run the tests, one process per core
	@mkdir -p build
	@nice $(BIN)/python -m pytest tests/test_device.py >build/test_device.log 2>&1 & device=$$!; \
	$(BIN)/python -m pytest $(FILES) --ignore tests/test_device.py --ignore tests/package; others=$$?; \
	wait $$device; device=$$?; cat build/test_device.log; exit $$((others || device))

test-slow: setup ## the tests that "test" leaves out: many processes, requeued jobs, dying servers, whole learning curves, long tables of cases
	$(BIN)/python -m pytest -n auto --dist load -m slow --ignore tests/test_device.py
	$(BIN)/python -m pytest -m slow tests/test_device.py

# An environment of its own, without the package and without torch: the site is made of what stands in the sources.
# Not --quiet, which hides warnings from --strict, too.
DOCS := .venv-docs
$(DOCS)/.installed: pyproject.toml
	@mkdir -p $(DOCS)
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > $(DOCS)/docs.txt
	$(INSTALL) $(DOCS) -r $(DOCS)/docs.txt
	@touch $@

docs: $(DOCS)/.installed ## build the documentation site into build/site; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

# BenchMARL needs an older torchrl, marl-eval an older pandas: virtual environments of their own, build/peers.
peers: ## install BenchMARL for its example, marl-eval and Ray for their tests, which are skipped without them
	$(PYTHON) tests/bench/peers.py benchmarl || echo "no BenchMARL: its example is skipped"
	$(PYTHON) tests/bench/peers.py marl_eval || echo "no marl-eval: the tests of its files are skipped"
	$(PYTHON) tests/bench/peers.py ray || echo "no Ray: the tests of its launcher are skipped"

examples: setup peers ## run examples/ with and without the sampler
	$(BIN)/python -m pytest tests/examples

# What other packages' interfaces change first: the parser, checkpoints, Lightning, W&B, torch's numbers, the environments.
NEWEST := .venv-newest
NEWEST_TESTS := tests/test_cli.py tests/test_configs.py tests/test_health.py tests/test_module.py tests/test_resume.py \
	tests/test_wandb_run.py tests/test_nets.py tests/behavior tests/targets tests/metrics tests/envs tests/export \
	tests/hostile tests/sweeps/test_sweep_files.py

test-newest: ## run a part of the tests on the newest versions that pyproject.toml allows (6 GB with CUDA)
	$(INSTALL) $(NEWEST) --upgrade -e '.[dev]'
	$(INSTALL) $(NEWEST) 'mlflow-skinny>=3'
	$(INSTALL) $(NEWEST) --no-deps $(SWEEPS)
	$(NEWEST)/bin/python -m pip list | grep -iE '^(torch|torchrl|tensordict|lightning|jsonargparse|omegaconf|wandb) '
	$(NEWEST)/bin/python -m pytest $(FILES) $(NEWEST_TESTS)

package: setup ## build sdist and wheel into dist/, check them, and try the wheel in an environment of its own
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pytest tests/package

drill: setup ## kill -9 over and over again, runs and sweeps; writes docs/evidence/drill.md (about a quarter of an hour)
	$(BIN)/python tests/drill/drill.py --output docs/evidence/drill.md

fuzz: setup ## hostile configurations, sweep files and payoffs: 160 times the cases of the tests, drawn anew (about 20 minutes)
	FUZZ=10 $(BIN)/python -m pytest -n auto --dist load tests/hostile

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## ruff: rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup ## mypy
	$(BIN)/mypy

# Keeps the pins that still fit pyproject.toml; delete a lock first to renew it. TORCH_CPU: a page or folder of CPU wheels.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu/torch/
LOCK = $(BIN)/uv pip compile --quiet --no-config --generate-hashes --custom-compile-command 'make lock' \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28

lock: ## pin what the images install and the tests run on: requirements*.lock
	$(INSTALL) $(VENV) uv
	echo torch==2.13.0+cpu > $(VENV)/torch.txt
	$(LOCK) pyproject.toml --extra media --extra report --extra continuous --extra envs --extra export --constraint $(VENV)/torch.txt --no-emit-package torch \
		--find-links $(TORCH_CPU) --output-file requirements.lock
	echo torch==2.13.0+cpu | $(LOCK) - --constraint requirements.lock --find-links $(TORCH_CPU) --output-file requirements-cpu.lock
	echo torch==2.13.0 | $(LOCK) - --constraint requirements.lock --output-file requirements-gpu.lock

docker-check: ## build the images without an engine and run the cpu one (as root; 10 minutes or more, 6 GB in build/docker)
	tests/docker/build_without_engine.sh

bench: setup ## time updates, environments, whole fits and other packages in turn; writes docs/evidence/speed.md (about 30 minutes)
	$(BIN)/python -m studies.speed

evidence-matrix: setup ## measure docs/evidence/matrix_games.md (about 7 minutes)
	$(BIN)/python -m studies.matrix_games

evidence-adam: setup ## measure docs/evidence/adam_epsilon.md: Adam's epsilon and the KL that delta stops (about three quarters of an hour)
	$(BIN)/python -m studies.adam_epsilon

evidence-cutoffs: setup ## measure docs/evidence/cutoffs.md: where updates overshoot, kl_cutoff auto; continues where it was interrupted (about 10 minutes)
	$(BIN)/python -m studies.cutoffs

evidence-games: setup ## measure docs/evidence/all_games.md: every named game (about 15 minutes)
	$(BIN)/python -m studies.all_games

evidence-random: setup ## measure docs/evidence/random_policies.md: the games of the paper from random policies (about a quarter of an hour)
	$(BIN)/python -m studies.random_policies

evidence-centralization: setup ## measure docs/evidence/centralization.md: PROPS against MA-PROPS with 3 and 4 agents (about a quarter of an hour)
	$(BIN)/python -m studies.centralization

evidence-batches: setup ## measure docs/evidence/batch_sizes.md: m against n on BoulderPush; continues where it was interrupted (about an hour)
	$(BIN)/python -m studies.batch_sizes

evidence-sight: setup ## measure docs/evidence/partial_sight.md: Foraging with little sight, with memory and without (about an hour and a half)
	$(BIN)/python -m studies.partial_sight

evidence-engines: setup ## measure docs/evidence/engines.md: the same runs by both engines (about a quarter of an hour)
	$(BIN)/python -m studies.engines

evidence-envs: setup ## measure docs/evidence/parallel_envs.md: environments side by side, stratified draws (about 5 minutes)
	$(BIN)/python -m studies.parallel_envs

evidence-low: setup ## measure docs/evidence/low_discrepancy.md; continues where it was interrupted (about 19 hours of one core)
	$(BIN)/python -m studies.low_discrepancy

evidence-samplers: setup ## measure docs/evidence/samplers.md; continues where it was interrupted (about 13 hours of one core)
	$(BIN)/python -m studies.samplers

evidence-map: setup ## measure docs/evidence/delta_epsilon.md: delta and epsilon over three decades; continues where it was interrupted (about three hours)
	$(BIN)/python -m studies.delta_epsilon

evidence-options: setup ## measure docs/evidence/cost_options.md; continues where it was interrupted (about an hour)
	$(BIN)/python -m studies.cost_options

evidence-history: setup ## measure docs/evidence/history.md; continues where it was interrupted (about two hours, growing histories of BoulderPush most of it)
	$(BIN)/python -m studies.history

evidence-gradients: setup ## measure docs/evidence/gradients.md; continues where it was interrupted (about 10 minutes)
	$(BIN)/python -m studies.gradients

evidence-mujoco: setup ## measure docs/evidence/mujoco_gradients.md: the gradient's variance on multi-agent MuJoCo; continues where it was interrupted (about 50 minutes, 20 GB of memory)
	$(BIN)/python -m studies.mujoco_gradients

evidence-autopsy: setup ## measure docs/evidence/autopsy.md: why seeds of BoulderPush fail; continues where it was interrupted (about half an hour)
	$(BIN)/python -m studies.autopsy

evidence-advantages: setup evidence-samplers evidence-low ## measure docs/evidence/advantages.md: IPPO's and MAPPO's advantages beside the true ones; continues where it was interrupted (about three quarters of an hour)
	$(BIN)/python -m studies.advantages

evidence-visits: setup evidence-low evidence-sparse ## measure docs/evidence/first_visits.md: revisits, sampling error and solved runs; continues where it was interrupted (about a quarter of an hour)
	$(BIN)/python -m studies.first_visits

evidence-sparse: setup ## measure docs/evidence/sparse_reward.md: a delayed reward on a rarely reached branch (about 5 minutes)
	$(BIN)/python -m studies.sparse_reward

evidence-decided: setup ## measure docs/evidence/until_decided.md: synthetic sweeps until decided (about half a minute)
	$(BIN)/python -m studies.until_decided

evidence-many: setup ## measure docs/evidence/many_agents.md; continues where it was interrupted (about half an hour)
	$(BIN)/python -m studies.many_agents

evidence-many-states: setup ## measure docs/evidence/many_agents_states.md: eight and four agents that must agree in stages; continues where it was interrupted (about an hour and a quarter)
	$(BIN)/python -m studies.many_agents_states

evidence-continuous: setup ## measure docs/evidence/continuous.md: samplers for continuous actions; continues where it was interrupted (about 10 minutes)
	$(BIN)/python -m studies.continuous

evidence-continuous-tasks: setup ## measure docs/evidence/continuous_tasks.md: solved runs; continues where it was interrupted (about five hours)
	$(BIN)/python -m studies.continuous_tasks

evidence-boulderpush: setup ## measure docs/evidence/boulderpush.md and the README's picture (about 5 minutes)
	$(BIN)/python -m studies.boulderpush

evidence-foraging: setup ## measure docs/evidence/foraging.md (about 10 minutes)
	$(BIN)/python -m studies.foraging

evidence-learners: setup ## measure docs/evidence/learners.md: IPPO, MAPPO, its paper's preset, HAPPO; continues where it was interrupted (about two hours)
	$(BIN)/python -m studies.learners

evidence-memory: setup ## measure docs/evidence/memory.md: the T-maze with memory and without (about 10 minutes)
	$(BIN)/python -m studies.memory

# Minutes of a core for a cell of 32 seeds, from the CPU time of short runs (IPPO or MAPPO; with HAPPO updates cost four times as much):
# StagedGame 0.3, TMaze 1 to 2, Foraging 5 to 8 (HAPPO 17 to 20), 10x10 about 20, Overcooked 11 (HAPPO about 25), RWARE 7 (HAPPO about 25), MPE spread 17,
# the two others of MPE about 11. A part of it: $(BIN)/python -m studies.tasks --tasks StagedGame --learners IPPO --workers 2
evidence-tasks: setup ## measure docs/evidence/tasks.md: learning curves task by task, the cheapest first; continues where it was interrupted (about 21 hours of one core)
	$(BIN)/python -m studies.tasks

# To measure a study anew, delete the rows of its tables (studies/<name>/*.csv) and what it has run (runs/<name>) first.
# The longest is begun first, so that it does not run on alone in the end.
EVIDENCE := evidence-tasks $(filter-out evidence-tasks,$(shell grep -ohE '^evidence-[a-z-]+' $(firstword $(MAKEFILE_LIST))))
evidence: setup ## all of these, two studies at a time, the others going on if one fails; those that continue measure only what their tables lack (about 40 hours for everything)
	$(MAKE) --keep-going --jobs 2 $(EVIDENCE)

leaderboard: setup ## make docs/leaderboard anew from the rows in leaderboard/; runs nothing
	$(BIN)/python -m lit_maprops benchmark --page_only --rows leaderboard --page docs/leaderboard

soak: setup ## watch one run for half an hour: memory, open files, logs; writes docs/evidence/soak.md
	$(BIN)/python -m studies.soak

gpu: setup ## test and time a GPU beside the CPU in under eight minutes; writes docs/evidence/gpu.md, or says that there is no GPU
	$(BIN)/python -m studies.gpu

clean: ## remove environments, packages and caches; runs/ stays
	rm -rf $(VENV) $(NEWEST) $(DOCS) dist build/site .pytest_cache .mypy_cache .ruff_cache
