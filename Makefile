# Needs only make and Python 3.11, 3.12 or 3.13 (TensorFlow has wheels for these): no uv, no root, no running server.
DATASET ?= digits
STACK ?= embedded
PYTEST_ARGS ?= -n 2 --dist worksteal
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that really runs: a shim of pyenv or asdf may exist and still fail.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	"$$name" -c 'import sys, ssl, venv, zlib; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { echo "$$name"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-jax up check fmt openapi reproduce reproduce-long bench-serving bench-scale docs

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

install: $(VENV)/.installed ## make .venv with everything that uv.lock names

$(VENV)/.installed: EXTRAS :=
$(VENV)-jax/.installed: EXTRAS := jax
$(VENV)/.installed $(VENV)-jax/.installed: pyproject.toml uv.lock .ci/bootstrap.py
	@test -n "$(PYTHON)" || { echo "make: no usable Python found. Install Python 3.11, 3.12 or 3.13 with its ssl and" \
		"venv modules, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	"$(PYTHON)" .ci/bootstrap.py $(@D) $(EXTRAS)
	@touch $@

demo: install ## run the whole main job (DATASET=digits|fashion_mnist STACK=embedded|scaled)
	@$(BIN)/leanfuse demo --dataset $(DATASET) --stack $(STACK)

up: install ## serve on http://127.0.0.1:8000 until Ctrl-C
	@$(BIN)/leanfuse up

$(VENV)-clients/.installed: tests/conformance/requirements.txt .ci/bootstrap.py
	@test -n "$(PYTHON)" || { echo "make: no usable Python found." >&2; exit 1; }
	"$(PYTHON)" .ci/bootstrap.py $(@D) tests/conformance/requirements.txt
	@touch $@

test: install $(VENV)-clients/.installed ## run every test, also with clients of others (in .venv-clients)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-jax: $(VENV)-jax/.installed ## run the tests of training on JAX, in an environment of their own (.venv-jax)
	KERAS_BACKEND=jax $(VENV)-jax/bin/python -m pytest $(PYTEST_ARGS) tests/worker/nn

reproduce: install ## measure published tables again through the API (about 50 minutes)
	@$(BIN)/python -m benchmarks.learning

reproduce-long: install ## also the rows that take longer (more than an hour on 2 cores)
	@$(BIN)/python -m benchmarks.learning --long

bench-serving: install ## compare servers (about 25 minutes, needs wrk; peers go to .venv-bench)
	@$(BIN)/python -m benchmarks.serving

bench-scale: install ## measure what one node, one database and one job's followers carry (about 10 minutes)
	@$(BIN)/python -m benchmarks.scale

docs: install ## build the pages into site/, which needs no network to be read
	$(BIN)/python .ci/troubleshooting.py
	$(BIN)/zensical build --strict --clean

check: install ## lint, types, import rules, spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

openapi: install ## write docs/openapi.json anew, after a change of the API
	$(BIN)/python -m tests.api.snapshot

fmt: install ## format and mend what can be mended
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
