# Regrow's commands. Each one sets up what it needs first; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What a fresh machine has is enough: no service, no index address, no global package.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo up test provoked check bench evaluate train lock messages clean

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv and install Regrow with everything in requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Regrow needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 -m venv failed; on Debian and Ubuntu install python3-venv first"; exit 1; }
	@echo "Installing into $(VENV) (about a minute the first time) ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: setup ## Watch failed tasks recover: under a minute, ends by itself
	@$(BIN)/python -m app.demo

up: setup ## Run worker, beat and services of the reference application until Ctrl-C
	@$(BIN)/python -m app.up

test: setup ## Run all tests; those that need a service that is not here are skipped
	@$(BIN)/python -m pytest $(ARGS)

provoked: $(VENV)/.provoked ## Provoke real failures, see how well they are classified (installs tests/provoked/requirements.lock)
	@$(BIN)/python -m tests.provoked $(ARGS)

$(VENV)/.provoked: $(STAMP) tests/provoked/requirements.lock
	@$(PIP) install --require-hashes -r tests/provoked/requirements.lock
	@touch $@

check: setup ## Format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## Measure (ratios within one run); see benchmarks/README.md
	@$(BIN)/python -m benchmarks

evaluate: setup ## How often classification is right on real failures (docs/accuracy.md)
	@$(BIN)/python -m tools.evaluate

train: setup ## Make the statistics again from tests/labels
	@$(BIN)/python -m tools.train_statistics

lock: setup ## Renew requirements.lock for Python 3.11-3.14 (needs uv on the PATH)
	@uv pip compile pyproject.toml --extra mysql --group build --group app --group test --group bench --group check --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q -o requirements.lock
	@uv pip compile --group provoked -c requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q -o tests/provoked/requirements.lock

messages: setup ## Compile the translations (entries go into the .po by hand; a test names what is missing)
	@$(BIN)/pybabel compile -D regrow -d src/regrow/locale

clean: ## Remove .venv, caches and everything that a run has left
	@rm -rf $(VENV) var logs reports spool build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
