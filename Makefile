# What people do with this repository. Needs Python 3.11 or newer and the package index, no more.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip takes the CPU build of torch where one is at hand; constraints hold exact versions.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help install quickstart test check docs bench clean

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.core

install: $(VENV)/.core  ## make .venv and install cameleer into it

quickstart: $(VENV)/.core  ## the miniature study: train, evaluate, report (about 10 minutes)
	$(BIN)/cameleer study run studies/quickstart.yaml

test: $(VENV)/.dev  ## install what tests need and run them all
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.dev  ## style, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev  ## write the reference anew from the code, build the site into site/
	$(BIN)/python -m docs.generate
	$(BIN)/python -m docs.figures
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

bench: $(VENV)/.dev  ## speed and memory beside peers (installs them into their own environments)
	$(BIN)/python -m bench.data
	$(BIN)/python -m bench.sft
	$(BIN)/python -m bench.plan
	$(BIN)/python -m bench.resume
	$(BIN)/python -m bench.eval

clean:  ## remove what the targets made here
	rm -rf $(VENV) runs site bench/out
