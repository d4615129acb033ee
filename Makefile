PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt --editable

.PHONY: train test lint

# Trains on the embedded data set in about two minutes.
train: $(VENV)/installed
	$(RUN) scripts/train.py --flagfile=configs/quickstart.flags --run_dir=runs/quickstart

# Every test.
test: $(VENV)/installed-test
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

# What else must hold before a commit: style, lint, types.
lint: $(VENV)/installed-test
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	{ echo "aelab needs Python 3.10 to 3.13: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing TensorFlow and what else is needed into $(VENV): 2 GB, a minute or two"
	$(INSTALL) .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing what the tests need"
	$(INSTALL) '.[test]'
	@touch $@
