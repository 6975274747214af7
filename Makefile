# One command each, set-up included. A set-up that has been done is done again only when what it was made from changes.
#
#   make run    a registry on http://localhost:5000
#   make test   the tests that need nothing but Python; those that need a program that is missing are skipped and say so
#   make rings  the tests that need real programs: clients, conformance, faults, permissions, proxies, upgrades, README, ... (.ci/run installs them)
#   make mutants  how many changed lines of the decision no test notices (some ten minutes)
#   make clouds  the tests of terraform/, against stand-ins for the clouds in an environment of their own; terraform has to be there
#   make cost LOG=access.log  what a month of that log's traffic costs, on R2 and elsewhere (OPTIONS="--scale 30x" for a day of it)
#   make lint   style, types, import rules
#   make image  the container image, with docker; IMAGE_OPTIONS go to `docker build`, SOURCE is a label: where its source is
#   make lock   the exact versions of everything, from pyproject.toml
#   make clean  remove what these commands made

PYTHON ?= python3
VENV ?= .venv
PYTEST ?=
OPTIONS ?=
BIN := $(VENV)/bin
RINGS := tests/check tests/clients tests/conformance tests/container tests/continuity tests/edge tests/faults tests/identity tests/terraform
STAMPS := $(VENV)/.edgeproxy
UV_VERSION := $(shell sed -n 's/^UV_VERSION=//p' .ci/versions)

.DEFAULT_GOAL := run
.PHONY: run test rings clouds cost lint lint-style lint-types lint-imports mutants development image lock clean

run: $(STAMPS)/runtime
	$(BIN)/edgeproxy dev

test: $(STAMPS)/development
	$(BIN)/pytest $(PYTEST) tests $(RINGS:%=--ignore=%)

rings: $(STAMPS)/development
	$(BIN)/pytest $(PYTEST) $(RINGS)

clouds: $(STAMPS)/development .venv-clouds/.edgeproxy
	$(BIN)/pytest $(PYTEST) tests/terraform

cost: $(STAMPS)/runtime
	@test -n "$(LOG)" || { echo "make cost LOG=access.log: name an access log, or benchmarks/egress/sample/day.json" >&2; exit 2; }
	@$(BIN)/python -m benchmarks.egress estimate $(LOG) $(OPTIONS)

lint: lint-style lint-types lint-imports

lint-style: $(STAMPS)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(STAMPS)/development
	$(BIN)/mypy

lint-imports: $(STAMPS)/development
	$(BIN)/lint-imports

mutants: $(STAMPS)/development
	.ci/mutants

development: $(STAMPS)/development

# --no-build-isolation: what builds the package is locked too, and fetched from nowhere else.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "edgeproxy needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/runtime: requirements/build.txt requirements/runtime.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/development: requirements/development.txt $(STAMPS)/runtime
	$(INSTALL) --require-hashes -r requirements/development.txt
	@touch $@

.venv-clouds/.edgeproxy: requirements/clouds.txt
	$(PYTHON) -m venv .venv-clouds
	.venv-clouds/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/clouds.txt
	@touch $@

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' edgeproxy/__init__.py)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
SOURCE ?=
IMAGE_OPTIONS ?=

image:
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg SOURCE=$(SOURCE) $(IMAGE_OPTIONS) \
		--tag edgeproxy --tag edgeproxy:$(VERSION) .

LOCK = $(VENV)/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url

lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip --disable-pip-version-check --quiet install uv==$(UV_VERSION)
	$(LOCK) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --extra granian --constraint requirements/runtime.txt --output-file requirements/container.txt
	$(LOCK) --group build --constraint requirements/runtime.txt --output-file requirements/build.txt
	$(LOCK) pyproject.toml --all-extras --group test --group lint --constraint requirements/runtime.txt --constraint requirements/build.txt \
		--output-file requirements/development.txt
	$(LOCK) --group clouds --output-file requirements/clouds.txt

clean:
	rm -rf $(VENV) .venv-* .edgeproxy .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist wheels
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
