# Every target does its own set-up: a virtual environment with the versions pinned in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=
BENCH_OUT ?=
# The library of the Functions worker asks for Python 3.13, and runs on 3.11 just the same.
WORKER := --no-deps --ignore-requires-python azure-functions-runtime azurefunctions-extensions-base

.PHONY: demo test lint format golden bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(WORKER)
	touch $(READY)

demo: $(READY)
	$(BIN)/client-flow demo

test: $(READY)
	$(BIN)/pytest --numprocesses auto $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(READY)
	$(BIN)/python -m tests.worker.golden

bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m tests.benchmarks $(if $(BENCH_OUT),--out $(BENCH_OUT))

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
