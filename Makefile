# Each verb makes what it needs: `make demo` and `make test` work on a machine with Python and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs

# torch comes first and by itself: asked for together with a range, a resolver may take a build with
# gigabytes of CUDA libraries. Use your own torch by making $(VENV) with it yourself.
TORCH := torch==2.13.0

.PHONY: demo fly test bench bench-algorithms lint format type docs check clean

$(VENV)/.demo: pyproject.toml constraints.txt envs/autopilot/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --editable "envs/autopilot[render]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo $(wildcard envs/*/pyproject.toml)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]" --editable "envs/autopilot[jsbsim,render]" --editable envs/known_optimum --editable envs/reasoning --editable envs/sycophancy
	touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

demo: $(VENV)/.demo
	$(BIN)/llm-gym demo --seed 0 --output $(RUNS)/demo

fly: $(VENV)/.demo
	mkdir -p $(RUNS)
	$(BIN)/llm-gym fly --agent ppo --turbulence moderate --record $(RUNS)/flight.gif

test: $(VENV)/.dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal

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

check: lint type test docs

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
