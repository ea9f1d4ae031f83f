# Salus: `make serve` from nothing; `make help` lists the rest.

VENV ?= .venv
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$name"; break; }; done)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUPPLY ?= $(VENV)-supply
SUPPLIED := $(SUPPLY)/.installed
SBOM ?= build/sbom.cdx.json
ARGS ?=
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile

# What is compiled is kept, whatever a container says: each command starts in half the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install serve demo test check format bench bench-validate soak settings sbom audit supply clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

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

test: $(STAMP) ## run the tests (ARGS="tests/salus -k load", WORKERS= for one process)
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

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

bench-validate: $(STAMP) ## measure validation (ARGS=us-core.tgz, else the one below SALUS_TEST_DATA)
	$(BIN)/python -m salus.bench.validation \
		$(or $(ARGS),$(SALUS_TEST_DATA)/packages/hl7.fhir.us.core-6.1.0.tgz)

soak: $(STAMP) ## the long forms of the property and crash tests
	$(BIN)/python -m pytest -m slow $(ARGS)

settings: $(STAMP) ## print every setting with its meaning
	$(BIN)/salus settings

$(SUPPLIED): supply/requirements.lock
	@test -n "$(PYTHON)" || { echo "Salus needs Python 3.11 or newer; name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r supply/requirements.lock
	@touch $@

sbom: $(STAMP) $(SUPPLIED) ## write build/sbom.cdx.json: all that Salus is made of (CycloneDX)
	@mkdir -p $(dir $(SBOM))
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--spec-version 1.6 --output-format JSON --validate --output-file $(SBOM) $(BIN)/python
	@echo "$(SBOM) lists all that Salus is made of"

audit: $(SUPPLIED) ## ask whether a pinned package is vulnerable (ARGS="--database FILE" asks a copy)
	$(SUPPLY)/bin/python supply/audit.py requirements.lock $(ARGS)

supply: sbom audit ## both: what Salus is made of, and what is known against it

clean: ## remove what install and the tools made
	rm -rf $(VENV) $(SUPPLY) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
