# posthouse: `make` lists what can be done here. It needs Python 3.11 or newer and nothing else:
# what else is used is put into .venv, in the versions that uv.lock names.

# The first of these that is new enough; or say which: make PYTHON=/path/to/python3.13 setup
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
UV := $(BIN)/uv
RUN := .venv/.ready-to-run
DEV := .venv/.ready-to-develop

export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test check bench docs soak format lint imports types

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(DEV) ## put all that development needs into .venv
	@echo "Ready: 'make test' tests, 'make check' runs the other gates, 'make demo' shows what posthouse does."

demo: $(RUN) ## kill a small system of services all the time, and see that nothing is lost
	@$(BIN)/python examples/webhooks/demo.py $(ARGS)

test: $(DEV) ## run the tests; ARGS="tests/unit -k lane" chooses, ARGS="-n 0" uses one process
	@$(BIN)/pytest -n 2 -o verbosity_test_cases=-1 $(ARGS)

check: $(DEV) ## run every gate but the tests, the quickest first
	@$(BIN)/ruff format --check || { echo "'make format' mends it"; exit 1; }
	@$(MAKE) --no-print-directory lint imports types

bench: $(DEV) ## run the benchmarks; ARGS names which
	@$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(DEV) ## run all code in docs/ and examples/ (there is no site to build yet)
	@$(BIN)/pytest tests/examples $(ARGS)

soak: $(DEV) ## run the slow tests, up to an hour
	@$(BIN)/pytest -m slow -o faulthandler_timeout=0 $(ARGS)

format: $(DEV) ## put the code into the house's format
	@$(BIN)/ruff format
	@$(BIN)/ruff check --select I --fix --quiet

lint: $(DEV) ## look for slips that need no types to be seen
	@$(BIN)/ruff check

imports: $(DEV) ## check that each floor imports only from floors below it
	@$(BIN)/lint-imports --no-logo

types: $(DEV) ## check the types
	@$(BIN)/basedpyright

$(UV):
	@test -n "$(PYTHON)" || { echo "posthouse needs Python 3.11 or newer; none was found. Say where one is: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Making .venv with $(PYTHON), and putting uv into it ..."
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check "uv==0.13.*"

$(RUN): pyproject.toml uv.lock | $(UV)
	@echo "Installing posthouse and what it runs on into .venv ..."
	@$(UV) sync --frozen --quiet --inexact --no-dev --all-extras
	@touch $@

$(DEV): pyproject.toml uv.lock | $(UV)
	@echo "Installing posthouse and the tools of its developers into .venv (a minute, the first time) ..."
	@$(UV) sync --frozen --quiet --all-extras
	@touch $@ $(RUN)
