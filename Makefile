# Each target makes its own environment first; see scripts/setup_environment.sh.
.PHONY: test demo lint format slow setup

BIN := .venv/bin

# Two processes or more, where there are cores; tests that share something expensive stay together.
test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

demo: setup
	$(BIN)/python examples/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: setup
	$(BIN)/python -m pytest -m slow

setup:
	@PYTHON="$(PYTHON)" ./scripts/setup_environment.sh
