# make run | test | check | bench | bench-guard: each sets up what it needs. PYTHON chooses the interpreter.
# Nothing is written outside this folder except by apt-get.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := tests/harness/install.sh
PYTEST_ARGS ?=
ARGS ?=

export PIP_CACHE_DIR := $(CURDIR)/var/cache/pip
export TMPDIR := $(CURDIR)/var/tmp
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1
MAKEFLAGS += --no-print-directory

.PHONY: run test check bench bench-guard packages clean
.DEFAULT_GOAL := run
$(shell mkdir -p var/cache/pip var/tmp)

run: $(VENV)/.runtime
	$(BIN)/nomad demo $(ARGS)

test: $(VENV)/.development packages
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --explicit-package-bases nomad radius tests $(wildcard bench/*.py)
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(VENV)/.bench
	$(BIN)/python -m bench $(ARGS)

bench-guard: $(VENV)/.development packages
	$(BIN)/python -m bench.guard $(ARGS)

packages:
	@$(INSTALL) packages

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

$(VENV)/.runtime: requirements.txt pyproject.toml
	$(INSTALL) venv "$(PYTHON)" $(VENV)
	$(BIN)/pip install -q -r requirements.txt -e .
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(BIN)/pip install -q -r requirements-dev.txt
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.development
	$(BIN)/pip install -q -r requirements-bench.txt
	@touch $@
