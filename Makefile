PYTHON ?= python3
CONFIG ?= configs/demo.yaml
BIN := .venv/bin

.PHONY: run test slow check format bench venv clean

run: venv
	$(BIN)/gpu-pipeline run $(CONFIG) $(ARGS)

test: venv
	$(BIN)/python scripts/test.py

slow: venv
	$(BIN)/python scripts/test.py --slow

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: venv
	$(BIN)/python -m bench all --tiny

venv:
	@$(PYTHON) scripts/install.py

clean:
	rm -rf .venv .peers runs build *.egg-info
