# `make demo` and `make test` do all their own set-up, in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# processes that tests start would compile the package again and again
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[test]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt
	test -e .venv/.run || $(PYTHON) -m venv .venv
	$(PIP) -e '.[dev]'
	@touch .venv/.run $@

demo: .venv/.run  ## the main job: six arms, two scenarios, real data; a table and a report
	$(BIN)/fedhq compare demo --out runs/demo

test: .venv/.run  ## the fast tests
	$(BIN)/pytest -q -n 2 --dist worksteal

test-all: .venv/.dev  ## all tests, the slow ones too; many only wait, so four at a time
	$(BIN)/pytest -q -m 'slow or not slow' -n 4 --dist worksteal

lint: .venv/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -n 2

docs: .venv/.dev  ## the documentation, into docs/_build; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

.venv/.bench: .venv/.run
	$(PIP) -e '.[bench]'
	@touch $@

bench: .venv/.bench  ## speed of solvers, operators and training steps, against alternatives
	$(BIN)/python -m fedhq.studies.benchmark

matrix: .venv/.dev  ## the wheel in clean environments: Python 3.11-3.13, oldest and newest dependencies
	$(BIN)/python -m fedhq.studies.matrix --out runs/matrix/matrix.md

QUICK := strategy problem check solution hardware data adjust controller highs residual extremes relaxation
matrix-row: .venv/.dev  ## one row of it, as in CI: oldest dependencies, no extras
	$(BIN)/python -m fedhq.studies.matrix --python 3.11 --ages oldest --extents core \
	    --tests $(QUICK:%=tests/allocator/test_%.py)

imports: .venv/.dev  ## how long `import fedhq.allocator` takes
	$(BIN)/python -m fedhq.studies.bench_imports

simulators: .venv/.run  ## speed of a round against Flower, pfl-research and BlazeFL; installs them apart
	$(BIN)/python -m fedhq.studies.bench_simulators --out runs/simulators/simulators.md

clean:  ## removes the environment and all results
	rm -rf .venv build dist *.egg-info runs

.PHONY: help demo test test-all lint docs bench matrix matrix-row imports simulators clean
