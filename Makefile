# Two commands: `make demo` tracks the sample clip; `make test` lints, type-checks and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test lint clean

demo: $(VENV)/.runtime
	$(BIN)/python samples/demo.py

test: lint
	$(BIN)/python -m pytest --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	touch $@

# The official package is the oracle of tests/parity. It has no wheel and asks for torchvision,
# hence its own line; without build isolation it is built against the torch already here.
$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -c constraints.txt -e ".[dev,train,export,npu]"
	SAM2_BUILD_CUDA=0 $(PIP) install -c constraints.txt --no-deps --no-build-isolation sam2==1.1.0
	touch $@

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache
