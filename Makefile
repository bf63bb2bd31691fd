# Every target makes the virtual environment it needs, once; a second call installs nothing (.ci/environment).
# PYTHON=python3.12 names the interpreter, VENV=folder the environment, ARGS="..." goes to the command.
VENV ?= .venv
export VENV PYTHON SUITE OUT WHEELS ARGS
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: bench gpu test verify-all lint kills clean help

bench: ## build, export, verify, measure and report on this machine
	@.ci/environment run
	$(BIN)/vggbench run $(ARGS)

gpu: ## on an NVIDIA GPU: its tests, then benchmarks/suites/gpu-short.toml; SUITE=plan OUT=folder WHEELS=folder
	@.ci/gpu

test: ## the whole test suite, with coverage
	@.ci/environment test
	$(BIN)/python -m pytest -n 2 --dist loadfile -p no:benchmark --cov --cov-report=term $(ARGS)

verify-all: ## can parity be fooled? every mutant and every variant at full size; ARGS=--resume goes on
	@.ci/environment test
	$(BIN)/python -m tests.parity.verify_all $(ARGS)

lint: ## style, format and types
	@.ci/environment test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

kills: ## kill a run 100 times, one on real backends 20 times, an export 30 times
	@.ci/environment test
	VGGBENCH_KILLS=1 $(BIN)/python -m pytest -s tests/cli/test_kills.py $(ARGS)

clean: ## remove the environment, caches and build folders; exports and reports stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage .coverage.*
	find vggbench tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
