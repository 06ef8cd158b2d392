# `make demo` and `make test` need nothing but Python 3.10+ and make: they set up .venv first if need be.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-all lint docs results clean

help:
	@echo "make setup     install into $(VENV)"
	@echo "make demo      train on the embedded data with a balancing plugin, print the modality table"
	@echo "make test      run the test suite (minutes, no network, no GPU)"
	@echo "make test-all  also the slow and GPU tests"
	@echo "make lint      ruff"
	@echo "make docs      write the generated tables anew"
	@echo "make results   run what is missing of the results grid, then write its table"

$(READY): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; set PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all]'
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/python tools/train.py configs/late_fusion/r18_digitscenes_mwam.py --work-dir work_dirs/demo

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow and not gpu'

test-all: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(READY)
	$(BIN)/python tools/list.py --docs
	$(BIN)/python tools/benchmark.py --report
	$(BIN)/python docs/draw_overview.py

results: $(READY)
	$(BIN)/python tools/benchmark.py

clean:
	rm -rf work_dirs build dist *.egg-info .pytest_cache .ruff_cache
