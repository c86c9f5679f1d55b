# One definition of clean: CI and the pre-commit hook call these targets and nothing of their own.
#
#   make run     build, then show a rootless guest on a network (see README.md)
#   make test    lint, unit, engine, system and end-to-end tests
#   make install the daemon as a service of launchd or systemd: PREFIX, BRIDGED, DESTDIR, INSTALL_ARGS
#
# Each target does its own set-up: Debian packages (as root on Debian and Ubuntu; elsewhere it says what to
# install), a virtual environment in .venv, and the engine, compiled in release mode.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
BASE_PYTHON ?= python3
export CARGO_TERM_COLOR ?= auto
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Also of the pip that maturin calls.
export PIP_QUIET := 1

ENGINE_SOURCES := $(shell find rust/engine rust/bindings -name '*.rs' -o -name Cargo.toml 2>/dev/null) \
	Cargo.toml Cargo.lock pyproject.toml

.PHONY: help dev run demo install install.bin uninstall test transfer unit lint type fmt e2e bench fuzz-smoke docs \
	clean build macos-check macos-wheel packages-run packages-test packages-bench

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# -- set-up --------------------------------------------------------------------------------------------

packages-run:
	@tools/packages run

packages-test:
	@tools/packages test

packages-bench:
	@tools/packages bench

$(VENV)/.tools: pyproject.toml
	@tools/packages build
	$(BASE_PYTHON) -m venv $(VENV)
	$(PYTHON) -m pip install --upgrade pip
	$(PYTHON) -m pip install --group build
	@touch $@

# maturin would install the group dev unless told which.
$(VENV)/.engine: $(VENV)/.tools $(ENGINE_SOURCES)
	$(VENV)/bin/maturin develop --release --group build --quiet
	@touch $@

$(VENV)/.dev: $(VENV)/.tools
	$(PYTHON) -m pip install --group dev
	@touch $@

build: $(VENV)/.engine ## the virtual environment with the compiled engine

# The same, and what tests, linters and benchmarks need.
dev: build $(VENV)/.dev

# -- use -----------------------------------------------------------------------------------------------

run: packages-run build ## boot a rootless guest on a network and show what it reaches
	$(VENV)/bin/vde_vmnet demo

demo: run

# As the original's: sudo make install [BRIDGED=en0] [PREFIX=/opt/vde] [DESTDIR=...]
PREFIX ?= /opt/vde
DESTDIR ?=
BRIDGED ?=
INSTALL_ARGS ?=
INSTALL_PLACE = --prefix='$(PREFIX)' $(if $(DESTDIR),--destdir='$(DESTDIR)') $(foreach if,$(BRIDGED),--bridged='$(if)')

install: build ## as a service below PREFIX (/opt/vde); see docs/guides/install.md
	$(VENV)/bin/vde_vmnet install $(INSTALL_PLACE) $(INSTALL_SERVICES) $(INSTALL_ARGS)

# The commands without services, as the original's.
install.bin: INSTALL_SERVICES = --no-services
install.bin: install

uninstall: ## what `make install` installed; by the installed program itself
	@python='$(DESTDIR)$(PREFIX)/lib/vde_vmnet/bin/python'; \
	if [ ! -x "$$python" ]; then echo "Nothing is installed below $(DESTDIR)$(PREFIX)" >&2; exit 1; fi; \
	"$$python" -I -m vde_vmnet uninstall $(INSTALL_PLACE) $(INSTALL_ARGS)

# -- checks --------------------------------------------------------------------------------------------

lint: dev type ## ruff, mypy, clippy, rustfmt, style tests
	$(VENV)/bin/ruff check python tests bench
	$(VENV)/bin/ruff format --check python tests bench
	cargo fmt --all --check
	cargo clippy --release --all-targets --workspace --quiet -- -D warnings
	$(PYTHON) -m pytest -q tests/style

type: dev ## mypy --strict, for Linux and macOS, and the native module against its stub
	$(VENV)/bin/mypy
	@# As a Mac's Python has it: what only Linux runs is left out.
	$(VENV)/bin/mypy --platform darwin --cache-dir .mypy_cache/darwin --follow-imports=silent \
		$$(find python/vde_vmnet -name '*.py' ! -path '*/uplinks/linux/*' ! -name undo_steps.py)
	$(PYTHON) -m mypy.stubtest vde_vmnet._engine

fmt: dev ## format everything
	$(VENV)/bin/ruff check --fix --quiet python tests bench || true
	$(VENV)/bin/ruff format --quiet python tests bench
	cargo fmt --all

unit: dev ## tests that need no root and take seconds
	cargo test --release --workspace --quiet
	$(PYTHON) -m pytest -q tests/unit tests/engine

e2e: packages-test dev ## real sockets, namespaces and guests
	$(PYTHON) -m pytest -v tests/system tests/e2e

transfer: packages-test dev ## 1 GiB from each guest to the next, on every kind of port at once, by checksum
	VDE_VMNET_TRANSFER_MIB=1024 $(PYTHON) -m pytest -v -s tests/e2e/test_all_kinds.py

test: packages-test lint unit e2e fuzz-smoke ## everything CI runs

bench: packages-bench dev ## side by side with vde_switch, passt, QEMU; BENCH_ARGS for options
	$(PYTHON) -m bench.run $(BENCH_ARGS)

docs: dev ## the generated pages of docs/reference, manual pages and completion scripts
	$(PYTHON) tools/render-docs

macos-check: build ## type-check the Rust half for both kinds of Mac, without one
	@tools/macos check

macos-wheel: build ## a wheel for each kind of Mac, in build/macos
	@tools/macos wheel

fuzz-smoke: dev ## each fuzz target for FUZZ_SECONDS (20)
	cd rust/fuzz && cargo build --release --quiet
	@# At the same time: neither half uses more than one processor.
	$(PYTHON) -m tests.fuzz --seconds $${FUZZ_SECONDS:-20} & python=$$!; status=0; \
	(cd rust/fuzz && cargo run --release --quiet -- --seconds $${FUZZ_SECONDS:-20}) || status=1; \
	wait $$python || status=1; exit $$status

clean: ## remove what these targets made
	rm -rf $(VENV) target build rust/fuzz/target tests/evidence
	rm -f python/vde_vmnet/_engine*.so
	find python tests bench -name __pycache__ -prune -exec rm -rf {} +
