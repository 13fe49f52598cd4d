# `make demo` runs the main job on embedded data, `make test` the checks.
# Both start from nothing: they make a virtual environment, install into it and run;
# a second run finds the stamp newer than pyproject.toml and installs nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# One test process for each core, each with one thread: threads of several processes wait for each other.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

unexport PYTHONDONTWRITEBYTECODE  # compiled modules are kept: tests start many processes

.PHONY: demo test quick coverage lint bench docs package clean

demo: $(STAMP)
	rm -rf demo
	$(BIN)/metricad demo --out demo

test: lint
	$(PYTEST)

quick: $(STAMP)
	$(PYTEST) --hypothesis-profile quick -m "(core or not tf) and not slow and not browser and not ray" --ignore tests/data_prep

coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python scripts/benchmark.py

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

package: $(STAMP)
	rm -rf dist build/package
	$(BIN)/python scripts/try_package.py --work build/package --dist dist

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,docs]'
	touch $@

clean:
	rm -rf $(VENV) demo dist build site .pytest_cache .ruff_cache .coverage
