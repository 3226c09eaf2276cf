# Every target sets up what it needs in .venv; `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

export PATH := $(HOME)/.cargo/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The extension is linked by the interpreter that loads it; no libpython needed to build or lint it.
export PYO3_BUILD_EXTENSION_MODULE := 1
export PYO3_PYTHON := $(CURDIR)/.venv/bin/python

VENV := .venv
BIN := $(VENV)/bin
# rust or none; each has its own stamp, so that a toolchain installed later is noticed.
BACKEND := $(shell scripts/rust 2>/dev/null && echo rust || echo none)
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
PYTEST_WORKERS ?= auto
# The yardstick of speed: standard library only, built beside the extension where there is a toolchain.
LIMIT-rust := benchmarks/limit/target/release/limit

.PHONY: help demo bench soak fuzz test test-python test-reference test-rust test-fuzz test-mutations check check-python check-rust docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(VENV)/.package-$(BACKEND) $(LIMIT-$(BACKEND)) ## replay the embedded sample and write a report that opens offline
	@scripts/rust || true
	@$(BIN)/featureplane demo

# Without a toolchain the first run is the one without the extension.
TESTS-rust := test-python test-reference test-rust test-mutations test-fuzz
TESTS-none := test-python test-rust
test: $(TESTS-$(BACKEND)) ## all tests, in both languages

test-python: $(VENV)/.package-$(BACKEND) $(VENV)/.dev
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS)

# The package has to work, and be tested, where the extension is absent.
test-reference: $(VENV)/.package-$(BACKEND) $(VENV)/.dev
	FEATUREPLANE_WITHOUT_NATIVE=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) tests/unit src

test-rust: $(VENV)/.package-$(BACKEND)
	@if scripts/rust; then \
	    echo cargo test --workspace; \
	    cargo test --workspace; \
	else \
	    echo "Tests of the Rust half were left out: see above."; \
	fi

# Six lines changed, others with every commit, each of which a comparison has to catch; all of them in `soak`.
test-mutations: $(VENV)/.package-$(BACKEND) $(VENV)/.dev ## change six lines and see the comparison go red
	$(BIN)/python -m scripts.mutations --pick 6

SCALE ?= 1
soak: $(VENV)/.package-$(BACKEND) $(VENV)/.dev ## what takes longer than a test may; writes benchmarks/SOAK.md; SCALE=0.01 rehearses it
	@scripts/rust
	$(BIN)/python -m scripts.soak --scale $(SCALE)

test-fuzz: $(VENV)/.python
	@$(BIN)/python -m scripts.fuzz --seconds 20 --jobs 2

SECONDS ?= 60
fuzz: $(VENV)/.python ## give every parser and decoder made-up bytes, SECONDS=60 each
	@scripts/rust
	@$(BIN)/python -m scripts.fuzz --seconds $(SECONDS)

bench: $(VENV)/.package-$(BACKEND) $(VENV)/.dev ## time everything beside the limit and the peers; writes benchmarks/RESULTS.md
	@scripts/rust
	$(BIN)/python -m benchmarks.run

check: check-python check-rust ## formatting, lints, types, layers, stubs, in both languages

check-python: $(VENV)/.package-$(BACKEND) $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check-rust: $(VENV)/.package-$(BACKEND) $(VENV)/.dev
	@scripts/rust
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --manifest-path fuzz/Cargo.toml --no-default-features --all-targets -- -D warnings
	# PyO3 writes the list of names itself; the stub says it once, as names.
	$(BIN)/stubtest featureplane._native --mypy-config-file pyproject.toml \
	    --allowlist <(echo featureplane._native.__all__)

docs: $(VENV)/.package-$(BACKEND) $(VENV)/.dev ## write the pages under docs/reference from the code
	$(BIN)/python -m scripts.docs

clean: ## forget .venv and everything built
	rm -rf $(VENV) target fuzz/target .cache dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src -name '*.so' -delete

$(VENV)/.python: scripts/python
	@python=$$(scripts/python) && "$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.python pyproject.toml scripts/requirements.py
	@echo "Installing what the package needs into $(VENV)"
	@$(BIN)/pip install --quiet --requirement <($(BIN)/python scripts/requirements.py)
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing the tools of the trade into $(VENV)"
	@$(BIN)/pip install --quiet --requirement <($(BIN)/python scripts/requirements.py dev)
	@touch $@

$(VENV)/.package-rust: $(VENV)/.core $(RUST_SOURCES) scripts/install
	@$(BIN)/pip install --quiet --requirement <($(BIN)/python scripts/requirements.py build)
	@echo "Building the Rust backend"
	@scripts/install rust
	@rm -f $(VENV)/.package-none && touch $@

$(LIMIT-rust): $(wildcard benchmarks/limit/src/*.rs) benchmarks/limit/Cargo.toml benchmarks/limit/Cargo.lock
	@echo "Building the hand-written limit to measure against"
	@cargo build --release --quiet --manifest-path benchmarks/limit/Cargo.toml

$(VENV)/.package-none: $(VENV)/.core scripts/install
	@scripts/install none
	@rm -f $(VENV)/.package-rust && touch $@
