# One runner. `make demo` and `make test` set up a fresh machine by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= PASSIVE
BENCH ?= $(basename $(notdir $(wildcard benchmarks/*.py)))

.PHONY: setup demo check fix test test-slow test-gpu docs bench
setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar off -e '.[dev]'
	touch $@

demo: setup  ## real text and real images, embedded weights, a few minutes
	$(BIN)/fewshot demo

check: setup  ## style, types, import contracts, cards
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fewshot zoo check

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup  ## two processes of one thread each: half the time on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

docs: setup  ## the site, strictly, into build/site/index.html
	$(BIN)/python -m pip install --progress-bar off -q -e '.[docs]'
	$(BIN)/python -m sphinx -b html -n -W --keep-going docs build/site

bench: setup  ## every benchmark in its --quick form; some: make bench BENCH="oracle prior"
	set -e; for name in $(BENCH); do $(BIN)/python benchmarks/$$name.py --quick; done
