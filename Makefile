# The commands of NovaDex. `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
BIN := .venv/bin

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s: 2>/dev/null || grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST)

setup: .venv/.runtime  ## make .venv with the locked dependencies; novadex is then .venv/bin/novadex

setup-dev: .venv/.dev  ## the same, with the tools of tests and checks

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "NovaDex needs Python 3.11 or later, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

.venv/.runtime: $(BIN)/python requirements/runtime.txt requirements/build.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.runtime requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

up: setup  ## start everything, stay in the foreground; Ctrl-C stops it
	@$(BIN)/novadex up

down: setup  ## stop everything
	@$(BIN)/novadex down

test: setup-dev  ## run the test suite: what is marked "alone" first, the rest three at a time (JOBS=6: six)
	@status=0; \
	$(BIN)/python -m pytest -m alone tests/faults || status=1; \
	$(BIN)/python -m pytest -m "not alone" -n $(or $(JOBS),3) --dist worksteal || status=1; \
	exit $$status

check: setup-dev  ## format, lint, types, import contract, migrations lint, dead dependencies, generated docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports
	@$(BIN)/squawk database/migrations/*/*.sql
	@$(BIN)/deptry .
	@$(BIN)/python -m docs.generate --check

format: setup-dev  ## format the code and repair what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: setup-dev  ## generate the reference of settings and .env.example from the code
	@$(BIN)/python -m docs.generate

guards: setup-dev  ## write down what guards the audit log, after a change of the schema
	@WRITE_GUARDS=1 $(BIN)/python -m pytest -q tests/integration/audit/test_guards.py -k schema

bench: setup-dev  ## every number of the README, with its peers, in one run
	@$(BIN)/python -m benchmarks

campaign: setup-dev  ## the long campaigns: kills, stale reads, revocations, false alarms: make campaign KILLS=500 SEED=1
	@$(BIN)/python -m tests.faults.campaign --kills $(or $(KILLS),200) --seed $(or $(SEED),1)
	@$(BIN)/python -m tests.faults.cache_campaign --reads $(or $(READS),1000000) --seed $(or $(SEED),1)
	@$(BIN)/python -m tests.faults.revocation_campaign --revocations $(or $(REVOCATIONS),2000) --seed $(or $(SEED),1)
	@$(BIN)/python -m tests.faults.reconciling --duration $(or $(DURATION),1h) --seed $(or $(SEED),1)

lock: setup-dev  ## resolve the dependencies anew into requirements/
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' pyproject.toml -o requirements/runtime.txt
	@echo 'hatchling\neditables' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' - -o requirements/build.txt -c requirements/runtime.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --group dev -c requirements/runtime.txt -c requirements/build.txt -o requirements/dev.txt

clean:  ## remove the virtual environment and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help setup setup-dev up down test check format docs bench campaign lock clean
