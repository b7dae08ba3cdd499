# setup makes .venv with everything; the other targets build on it.
PYTHON ?= python3.11
VENV := .venv
# Processes that share the tests; a machine's cores by default. The tables of conformance are made from what one process saw.
WORKERS ?= auto
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help setup demo test lint format bench up clean

help:
	@echo "make demo    run the main job, end to end, on a platform of its own"
	@echo "make test    run the tests"
	@echo "make up      start a platform in ./bottega-data"
	@echo "make lint    check style and types"
	@echo "make bench   print the benchmarks (PEERS=1: beside other tools)"
	@echo "make setup   make the environment in ./.venv"

$(VENV)/ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Bottega needs Python 3.11 ($(PYTHON) was not found); set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/ready

demo: setup
	$(BIN)/bottega demo

up: setup
	$(BIN)/bottega up

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore tests/conformance
	$(BIN)/python -m pytest tests/conformance

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .bench bottega-data
