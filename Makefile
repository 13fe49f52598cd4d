# `make demo` runs the main job on embedded data, `make test` the checks.
# Both start from nothing: they make a virtual environment, install into it and run;
# a second run finds the stamp newer than pyproject.toml and installs nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test quick coverage lint bench clean

demo: $(STAMP)
	rm -rf demo
	$(BIN)/metricad demo --out demo

test: lint
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

quick: $(STAMP)
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "(core or not tf) and not slow and not browser"

coverage: $(STAMP)
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python scripts/benchmark.py

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .coverage
