# `make demo` and `make test` do all their set-up on a fresh Debian 12 or 13, as
# root or through sudo; what is already there is left alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# With it each of the many processes that the tests start would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# A plain path instead of an import hook saves 8 ms at each start of mount.pyunion.
EDITABLE := --config-settings editable_mode=compat

# libfuse3-dev, gcc, pkg-config, python3-dev: pyfuse3 has no wheel and is compiled
# here, so that every transport is tested.  The others are what the demo and the
# tests call.
PACKAGES := fuse3 libfuse3-dev gcc pkg-config python3-dev python3-venv \
            mmdebstrap busybox-static acl attr e2fsprogs libcap2-bin uidmap \
            skopeo umoci libarchive-tools
# The engines whose mount program PyUnion is in tests/engines.
ENGINES := podman buildah crun
# What `make bench` measures beside PyUnion, and what its workloads run.
PEERS := fuse-overlayfs unionfs-fuse mergerfs fio git

.PHONY: help
help:
	@echo 'make demo           a Debian becomes an image, is run, changed and committed'
	@echo 'make lint           ruff, mypy, import contracts'
	@echo 'make check          lint, and the tests that need neither root nor a mount'
	@echo 'make check-pythons  those tests, and with root the core, under every other Python'
	@echo 'make test           lint, and all tests, as root (PYTEST="-k lookup" for a part)'
	@echo 'make bench          PyUnion beside its peers (ARGS="--only find --rounds 9")'
	@echo 'make bench-quick    the same on less data, in under 3 minutes'
	@echo 'make install        make `mount -t pyunion` and `pyunion` work on this machine'
	@echo 'make uninstall      undo that'
	@echo 'make clean          remove everything made here, the cached Debian rootfs included'

.PHONY: demo
demo: $(VENV)/product
	@$(ROOT) $(BIN)/python -m benchmarks.demo

RUN_TESTS = $(ROOT) env UNIONFS_REQUIRE_FUSE=$$([ ! -e /dev/fuse ] || echo 1) \
    $(BIN)/python -m pytest
QUICK := PYUNION_TEST_QUICK=1
# COVERAGE=1 prints the branches that the quick tests take in their own processes; daemons
# and commands run in processes of their own and are not seen.
COVERAGE :=
COVER := $(if $(COVERAGE),--cov --cov-branch --cov-report=term)
# The folders whose every test needs root or a mount: not even imported by the quick tests.
WITH_ROOT := conformance benchmarks engines faults interop model unionfs/core
# Each worker starts with half of the tests, in their order, for the fixtures of their modules.
WORKERS := -n 2 --dist worksteal
QUICK_TESTS := -q -r fE $(WORKERS) -m 'not slow' $(WITH_ROOT:%=--ignore=tests/%)

# The conformance suite in processes of their own: its 14,000 tests would weigh on
# every process that the other tests fork.
.PHONY: test
test: lint $(VENV)/registry $(VENV)/engines
	@[ -e /dev/fuse ] || $(ROOT) modprobe fuse || true
	@$(RUN_TESTS) $(or $(PYTEST),$(WORKERS) --ignore=tests/conformance)
	@$(if $(PYTEST),,$(RUN_TESTS) $(WORKERS) tests/conformance)

.PHONY: check
check: lint
	@mkdir -p .cache
	@env $(QUICK) $(BIN)/python -m pytest $(QUICK_TESTS) $(COVER)

# Each gets a virtual environment of its own, without pyfuse3, which is an extra.  The first
# of them counts the branches.  As root the union itself runs under each, too.
.PHONY: check-pythons
check-pythons:
	@cover='$(COVER)'; for python in $(wildcard $(HOME)/.pyenv/versions/3.1[2-9].*/bin/python3) \
	        $$(for minor in 12 13 14; do command -v python3.$$minor || true; done); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    there=.cache/python$$version; echo "Python $$version"; \
	    [ -x $$there/bin/pytest ] || { $$python -m venv $$there; \
	        $$there/bin/python -m pip --disable-pip-version-check --quiet install \
	            $(EDITABLE) -e '.[test]'; }; \
	    env $(QUICK) $$there/bin/python -m pytest -p no:cacheprovider $(QUICK_TESTS) $$cover; \
	    cover=; \
	    [ $$(id -u) != 0 ] || $$there/bin/python -m pytest -p no:cacheprovider -q $(WORKERS) \
	        tests/unionfs/core; \
	done

.PHONY: bench
bench: $(VENV)/product $(VENV)/peers
	@$(ROOT) $(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-quick
bench-quick:
	@$(MAKE) bench ARGS='--quick $(ARGS)'

.PHONY: lint
lint: $(VENV)/tools
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

MAN := /usr/local/share/man

.PHONY: install
install: $(VENV)/product
	@# Where PYTHONDONTWRITEBYTECODE is set, each mount would compile all modules.
	@$(BIN)/python -m compileall -q unionfs layerstore mount_tools
	@# mount(8) looks in /sbin, and the shell of an ordinary user does not.
	@$(ROOT) ln -sfn $(CURDIR)/$(BIN)/mount.pyunion /sbin/mount.pyunion
	@$(ROOT) ln -sfn $(CURDIR)/$(BIN)/mount.pyunion /usr/local/bin/mount.pyunion
	@$(ROOT) ln -sfn $(CURDIR)/$(BIN)/pyunion /usr/local/bin/pyunion
	@for section in 1 8; do \
	    $(ROOT) mkdir -p $(MAN)/man$$section; \
	    $(ROOT) ln -sfn $(CURDIR)/man/*.$$section $(MAN)/man$$section/; \
	done
	@$(ROOT) setpriv --reuid=65534 --regid=65534 --clear-groups test -x $(CURDIR)/$(BIN)/pyunion \
	    || echo 'only users who can read $(CURDIR) can run pyunion'

.PHONY: uninstall
uninstall:
	@for link in /sbin/mount.pyunion /usr/local/bin/{mount.pyunion,pyunion} \
	        $(MAN)/man[18]/*pyunion*; do \
	    case $$(readlink $$link) in $(CURDIR)/*) $(ROOT) rm -f $$link;; esac; \
	done

.PHONY: clean
clean:
	@$(ROOT) rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache \
	    .pytest_cache .hypothesis .import_linter_cache
	@$(ROOT) find . -name __pycache__ -prune -exec rm -rf {} +

# -- set-up, once; each file made is the record that its step is done --

$(VENV)/packages: WANTED := $(PACKAGES)
$(VENV)/engines: WANTED := $(ENGINES)
$(VENV)/peers: WANTED := $(PEERS)

$(VENV)/packages $(VENV)/engines $(VENV)/peers: Makefile
	@if command -v apt-get >/dev/null; then \
	    missing=; \
	    for package in $(WANTED); do \
	        dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null \
	            | grep -qx installed || missing+=" $$package"; \
	    done; \
	    if [ -n "$$missing" ]; then \
	        echo "installing$$missing"; \
	        apt="$(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"; \
	        $$apt update; \
	        $$apt install -y --no-install-recommends $$missing >/dev/null </dev/null; \
	    fi; \
	else \
	    echo 'no apt-get here; what is needed, by the Debian names: $(WANTED)'; \
	fi
	@mkdir -p $(@D) && touch $@

# Taken out of its package, not installed: installing it starts a service on port 5000.
REGISTRY := .cache/docker-registry
$(VENV)/registry: $(VENV)/packages
	@if command -v apt-get >/dev/null && ! command -v docker-registry >/dev/null; then \
	    rm -rf $(REGISTRY); mkdir -p $(REGISTRY); \
	    get='apt-get -qq download docker-registry'; \
	    if (cd $(REGISTRY) && { $$get || { $(ROOT) apt-get -qq update && $$get; }; } \
	            && dpkg -x docker-registry_*.deb .) 2>/dev/null; then \
	        rm -f $(REGISTRY)/*.deb; \
	    else \
	        echo 'no package docker-registry; the tests that need a registry are skipped'; \
	    fi; \
	fi
	@touch $@

# The interpreter needs its headers for pyfuse3, so Debian's own comes first.
$(VENV)/product: $(VENV)/packages setup.cfg pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    for python in /usr/bin/python3 python3.{13,12,11} python3; do \
	        $$python -c 'import os, sys, sysconfig; sys.exit(sys.version_info < (3, 11) or not \
	            os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null \
	            && break; \
	    done || { echo 'no Python 3.11 or newer with its headers found' >&2; exit 1; }; \
	    $$python -m venv $(VENV); \
	fi
	@echo 'installing pyunion into $(VENV)'
	@$(PIP) install $(EDITABLE) -e '.[pyfuse3]'
	@touch $@

$(VENV)/tools: $(VENV)/product
	@echo 'installing the test tools into $(VENV)'
	@$(PIP) install $(EDITABLE) -e '.[pyfuse3,test,lint]'
	@touch $@
