# Each target does all of its own set-up; nothing has to be installed by hand before.
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
FOREIGN ?= .venv-foreign
OLDEST ?= .venv-oldest
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
KERNELS := setup.py $(wildcard decision_policies/ops/native/*.[ch])
export OMP_NUM_THREADS ?= 1

.PHONY: help quickstart test oldest foreign faults long-lives lint docs benchmark peers clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

quickstart: $(VENV)/quickstart  ## Train, save, load, act and draw a picture, in two minutes
	$(BIN)/python examples/01_quickstart.py

test: $(VENV)/test lint  ## Types, style and all tests, a process on each core
	$(BIN)/python -m pytest -n auto

oldest: $(OLDEST)/ready  ## The tests of spaces, environments and their tools, with the oldest of both that are claimed
	$(OLDEST)/bin/python -m pytest -n auto tests/envs tests/test_sb3_tools.py tests/test_sb3_habits.py \
	  tests/test_sb3_source.py tests/test_extractors.py tests/test_wrap_vector.py tests/test_spaces.py \
	  tests/test_space_doors.py tests/test_dict_observations.py tests/test_learn.py tests/test_evaluation.py

$(OLDEST)/ready: setup.cfg constraints.txt constraints-oldest.txt $(KERNELS)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check -r constraints-oldest.txt
	touch $@

foreign: $(FOREIGN)/ready  ## Tests that run rl_zoo3 and W&B as they are, in an environment of their own
	$(FOREIGN)/bin/python -m pytest tests/foreign

faults: $(VENV)/test  ## Some 17 000 injected faults, counted; tests run a slice of them
	$(BIN)/python -m tests.faults

long-lives: $(VENV)/test  ## A million steps in each way to remember; tests live for 5 000
	$(BIN)/python -m tests.long_lives

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/docs  ## The site, in build/docs; a warning or a broken link is an error
	$(BIN)/sphinx-build -q -E -W --keep-going docs build/docs
	@echo "the site: build/docs/index.html"

benchmark: $(VENV)/benchmarks  ## Speed against peers: benchmarks/RESULTS.md; QUICK=--quick for some minutes
	$(BIN)/python -m benchmarks $(QUICK)

peers: $(PEERS)/ready  ## Make .venv-peers with d3rlpy, for its rows of `python -m zoo benchmark`

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/quickstart: setup.cfg constraints.txt $(KERNELS) | $(BIN)/pip
	$(INSTALL) -e '.[plots,progress]'
	touch $@

$(VENV)/test: setup.cfg constraints.txt $(KERNELS) | $(BIN)/pip
	$(INSTALL) -e '.[test]'
	touch $@

$(VENV)/docs: setup.cfg constraints.txt $(KERNELS) | $(BIN)/pip
	$(INSTALL) -e '.[docs]'
	touch $@

$(VENV)/benchmarks: setup.cfg constraints.txt $(KERNELS) | $(BIN)/pip
	$(INSTALL) -e '.[benchmarks]'
	touch $@

$(PEERS)/ready: constraints-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --no-deps -r constraints-peers.txt
	touch $@

$(FOREIGN)/ready: setup.cfg constraints.txt constraints-foreign.txt $(KERNELS)
	$(PYTHON) -m venv $(FOREIGN)
	grep -v '^python-dateutil=' constraints.txt > $(FOREIGN)/constraints.txt
	$(FOREIGN)/bin/pip install --quiet --disable-pip-version-check -c $(FOREIGN)/constraints.txt \
	  -c constraints-foreign.txt -e '.[rl-zoo3,wandb,tensorboard,video]' pytest
	touch $@

clean:  ## Remove the virtual environment and what runs have left
	rm -rf $(VENV) $(PEERS) $(FOREIGN) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
