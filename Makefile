# Two commands do everything on a machine with Python >= 3.11: `make demo` and `make test`. Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Overrides for the demo: make demo DEMO="seed=1 train.epochs=4"
DEMO ?=
NAME ?= demo
ZOO ?=

.PHONY: demo test zoo docs lint clean

demo: .venv/installed
	$(BIN)/python train.py configs/demo.yaml name=$(NAME) overwrite=true $(DEMO)
	$(BIN)/python evaluate.py runs/$(NAME)/checkpoint_last.pt

# The tests of a file stay in one process: they share what its fixtures make. At most 8, of about 1 GB each.
test: .venv/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

# A broken link is an error. The variable turns off an advertisement.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Every family, spiking and ANN, direct and converted, in one table: runs/zoo/zoo.md. make zoo ZOO="--jobs 4"
zoo: .venv/installed
	$(BIN)/python -m tools.zoo $(ZOO)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SpikeSight needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing dependencies (about 5.5 GB with PyTorch's CUDA build, a few minutes)"
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

clean:
	rm -rf .venv runs scenes site
