PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt --editable

.PHONY: train test lint

# Train on the embedded data set, in about two minutes.
train: $(VENV)/installed
	$(RUN) scripts/train.py --flagfile=configs/quickstart.flags --run_dir=runs/quickstart

# Run every test.
test: $(VENV)/installed-test
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

# Check format, lint and types.
lint: $(VENV)/installed-test
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	{ echo "aelab needs Python 3.10 to 3.13: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing TensorFlow and the other requirements into $(VENV): 2 GB, 1 to 2 minutes"
	$(INSTALL) .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing the requirements of the tests"
	$(INSTALL) '.[test]'
	@touch $@
