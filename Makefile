# Everything here runs from .venv, which is made as needed from the locked requirements. `make help` lists the targets.

# The system's own Python, where it is new enough and can make a .venv: it is what an installation runs with, and Debian
# compiles it so that it is a quarter faster than one that was built by hand.
SYSTEM_PYTHON = $(shell /usr/bin/python3 -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null)
PYTHON ?= $(or $(if $(SYSTEM_PYTHON),$(shell $(SYSTEM_PYTHON) -c 'import ensurepip, sys, venv; print(sys.executable)' 2>/dev/null)),python3)
CONFIG ?= config/examples/demo.toml
PBX ?= simulated
LAB_ASTERISK ?= 22
SOAK_CALLS ?= 1000000
SOAK_DAYS ?= 14

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/runtime.stamp
DEV := $(VENV)/dev.stamp
LOCK := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --all-build-deps --allow-unsafe \
	--strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
# Where things are installed. RUNNER is the python that the daemon runs with: the system's own, where it is new enough.
DESTDIR ?=
PREFIX ?= /opt/dialerd
BINDIR ?= /usr/local/bin
LIBDIR ?= /usr/local/lib
SHAREDIR ?= /usr/local/share
UNITDIR ?= $(LIBDIR)/systemd/system
SYSUSERSDIR ?= $(LIBDIR)/sysusers.d
TMPFILESDIR ?= $(LIBDIR)/tmpfiles.d
RUNNER ?= $(or $(SYSTEM_PYTHON),$(PYTHON))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
WHEEL := dist/dialerd-$(VERSION)-py3-none-any.whl
PLACES = DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' BINDIR='$(BINDIR)' SHAREDIR='$(SHAREDIR)' UNITDIR='$(UNITDIR)' \
	SYSUSERSDIR='$(SYSUSERSDIR)' TMPFILESDIR='$(TMPFILESDIR)' PURGE='$(PURGE)'
PARTS = WHEEL='$(WHEEL)' LOCK=requirements.lock PIP=$(BIN)/python RUNNER='$(RUNNER)'
# The time of the last commit, so that the same sources make the same files, byte by byte.
ifndef SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
endif
export SOURCE_DATE_EPOCH

# Whoever starts Python a thousand times, as the tests do, should not compile the same sources each time.
unexport PYTHONDONTWRITEBYTECODE

# The stores of all tests but the lab's lie in memory where they can: they are flushed to disk a thousand times a second.
FAST_TMP := $(shell [ -w /dev/shm ] && echo /dev/shm || echo $${TMPDIR:-/tmp})

# All tests of `make check`, in three processes of much the same size. Workers of xdist would each collect all of them and
# compile every query of the store anew, which was a third of the processor's time.
FAST_TESTS := fast-units fast-simulation fast-others
FAST_PYTEST = TMPDIR=$(FAST_TMP) TEST_EFFORT=quick $(BIN)/pytest -q -p no:cacheprovider -p no:xdist \
	-m "not lab and not slow and not freeswitch and not postgres"
STORMS := tests/simulation/test_seeds.py::test_the_laws_hold_whatever_happens

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo check test soak test-freeswitch lab lab-down bench install-dev lock lint bandit $(FAST_TESTS) audit \
	install uninstall wheel deb test-deb

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: $(RUNTIME) ## run the daemon in the foreground; CONFIG=FILE chooses its configuration
	@DIALERD_STORE__URL="$${DIALERD_STORE__URL:-sqlite:///$(CURDIR)/dialerd.db}" $(BIN)/dialerd serve --config $(CONFIG)

demo: $(RUNTIME) ## dial an example list through a simulated PBX; PBX=asterisk uses the lab's real one
	@PBX=$(PBX) LAB_ASTERISK=$(LAB_ASTERISK) PYTHON=$(BIN)/python sh config/examples/demo.sh

check: $(DEV) ## static checks and all tests that need no PBX, in about a minute
	@$(MAKE) --no-print-directory --keep-going --jobs=4 --output-sync=target $(FAST_TESTS) lint

lint: $(DEV)
	@failed=0; \
	$(BIN)/ruff check --quiet . || failed=1; \
	$(BIN)/ruff format --check --quiet . || failed=1; \
	$(BIN)/lint-imports --no-logo || failed=1; \
	$(BIN)/mypy || failed=1; \
	exit $$failed

bandit: $(DEV)
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml dialerd

fast-units: $(DEV)
	@$(FAST_PYTEST) tests/unit

# The storms are most of it, and are played by the two that have the least else.
fast-simulation: $(DEV)
	@STORM_SEEDS=0-24 $(FAST_PYTEST) tests/simulation

fast-others: $(DEV)
	@STORM_SEEDS=25-49 $(FAST_PYTEST) $(STORMS) tests/property tests/golden tests/contract/test_*.py tests/docs

# What is dialled on the lab's real Asterisk is mostly waited for, and must not wait for others: it has the cores first.
test: $(DEV) ## static checks and all tests, those with both versions of a real Asterisk too
	@failed=0; told=$$(mktemp -d); trap 'kill $$lab $$static 2>/dev/null; rm -rf "$$told"' EXIT; trap 'exit 130' INT TERM; \
	nice -n 5 $(MAKE) --no-print-directory --keep-going lint bandit > "$$told/static" 2>&1 & static=$$!; \
	$(BIN)/pytest -q -n 2 --dist worksteal -m lab > "$$told/lab" 2>&1 & lab=$$!; \
	TMPDIR=$(FAST_TMP) nice -n 5 $(BIN)/pytest -q -n 4 --dist worksteal -m "not lab and not freeswitch and not deb" || failed=1; \
	wait $$static || failed=1; wait $$lab || failed=1; cat "$$told/static" "$$told/lab"; \
	exit $$failed

soak: $(DEV) ## SOAK_CALLS calls in SOAK_DAYS simulated days with flat memory, and the whole storms on the real Asterisk
	@TMPDIR=$(FAST_TMP) $(BIN)/python -m tests.simulation.soak $(SOAK_CALLS) $(SOAK_DAYS)
	@TEST_EFFORT=soak $(BIN)/pytest -m lab tests/integration/test_storms.py

test-freeswitch: $(DEV) ## the contract suite on a real FreeSWITCH: FREESWITCH_ESL=host:port:password make test-freeswitch
	@[ -n "$$FREESWITCH_ESL" ] || { echo "say where: FREESWITCH_ESL=host:port:password make test-freeswitch" >&2; exit 1; }
	@$(BIN)/pytest -q -m freeswitch tests/contract

test-deb: $(DEV) ## the package and make install on a Debian 12 of their own, in a container (as root)
	@$(BIN)/pytest -q -m deb tests/packaging

lab: $(RUNTIME) ## start a real Asterisk with far ends that behave by the dialled number; LAB_ASTERISK=16 the older one
	@$(BIN)/python -m tests.lab up --version $(LAB_ASTERISK)

lab-down: $(RUNTIME) ## stop it
	@$(BIN)/python -m tests.lab down

audit: $(DEV) ## ask the advisory database for known weaknesses of the locked packages
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

bench: $(DEV) ## measure against bare baselines and write bench/RESULTS.md; BENCH="--only NAME" one, BENCH=--missing the rest
	@failed=0; \
	$(BIN)/python -m bench --json bench/results.json $(BENCH) || failed=1; \
	$(BIN)/python -m bench --json bench/results.json --results bench/RESULTS.md || failed=1; \
	exit $$failed

install: wheel ## install for this machine (as root): /opt/dialerd, /etc/dialerd, unit, user; DESTDIR and PREFIX are heeded
	@$(PLACES) $(PARTS) sh systemd/install.sh

uninstall: ## take that back; PURGE=1 removes configuration and data too
	@$(PLACES) sh systemd/uninstall.sh

# Built from a copy of what belongs into it: nothing that lies about here, or lay there once, gets in.
wheel: $(RUNTIME) ## build dist/dialerd-VERSION-py3-none-any.whl, the same for the same sources
	@rm -rf build/wheel && mkdir -p build/wheel dist
	@tar --exclude=__pycache__ --exclude='*.pyc' -cf - pyproject.toml README.md LICENSE dialerd | tar -C build/wheel --no-same-permissions -xf -
	@chmod -R u=rwX,go=rX build/wheel
	@$(PIP) wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir dist ./build/wheel
	@echo $(WHEEL)

deb: wheel ## build dist/dialerd_VERSION_ARCH.deb for the Debian that this is
	@$(PARTS) VERSION='$(VERSION)' sh debian/build.sh

install-dev: $(DEV) ## make .venv with everything that development needs

lock: $(DEV) ## bring requirements.lock and tests/requirements.lock in line with pyproject.toml
	$(LOCK) --output-file=requirements.lock pyproject.toml
	$(LOCK) --extra=dev --output-file=tests/requirements.lock pyproject.toml

# Debian keeps what venv needs in a package of its own.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "dialerd needs Python 3.11 or later; choose one with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || if [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv; \
	else \
		echo "Python's venv is missing. Install it: sudo apt-get install python3-venv" >&2; exit 1; \
	fi
	@$(PYTHON) -m venv $(VENV)

# The lock holds the build backend too, so that installing the project itself, and what comes as source, downloads
# nothing unchecked.
$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/pip
	@echo "installing into $(VENV)"
	@awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements.lock > $(VENV)/backend.lock
	@$(PIP) install --require-hashes -r $(VENV)/backend.lock
	@$(PIP) install --no-build-isolation --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

$(DEV): tests/requirements.lock $(RUNTIME)
	@$(PIP) install --no-build-isolation --require-hashes -r tests/requirements.lock
	@touch $@
