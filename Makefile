# Salus: `make serve` from nothing; `make help` lists the rest.

VENV ?= .venv
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$name"; break; }; done)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help install serve demo test check format bench soak settings clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv with the salus command in it

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Salus needs Python 3.11 or newer; name one: make PYTHON=..."; exit 1; }
	@echo "Installing into $(VENV), once; this takes about a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@

serve: $(STAMP) ## serve on 127.0.0.1:8080, to apps and people who may (ARGS="--port 9000")
	$(BIN)/salus serve $(ARGS)

demo: $(STAMP) ## seed a small invented clinic and serve it
	$(BIN)/salus demo $(ARGS)

test: $(STAMP) ## run the tests (ARGS="tests/salus -k load")
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## format, lint, types, and the shape of the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_tidy.py

format: $(STAMP) ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure, correctness first (ARGS=--quick)
	$(BIN)/salus bench $(ARGS)

soak: $(STAMP) ## the long forms of the property and crash tests
	$(BIN)/python -m pytest -m slow $(ARGS)

settings: $(STAMP) ## print every setting with its meaning
	$(BIN)/salus settings

clean: ## remove what install and the tools made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
