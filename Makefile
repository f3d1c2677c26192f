# make demo   the main job on the embedded default; needs nothing but the toolchain
#             make demo ARGS="--check 20" compares every value with what the sensors hold; ARGS=--help lists the rest
# make test   installs what the tests need, then runs them all
# make bench  figures against the budgets, with the machine named; make bench ARGS=--json for programs
# make screens  pictures of every page of the dashboard, in both themes, from phone to wall, in target/screens
# make cross  static agent binaries for aarch64 and armv7, in .cross/out
# make packages  Debian packages of them, beside them
SHELL := /bin/bash
.PHONY: demo test test-deps bench screens cross packages

demo:
	cargo build --release -p edge-agent -p collector --bins --example demo
	@cargo run --quiet --release -p collector --example demo -- $(ARGS)

# Clippy is the compiler of our crates here: as a step of its own it has the compiler look at every dependency a second time.
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__
# Half of the time tests wait for a clock or a program: two of them for each processor.
THREADS := $(shell echo $$((2 * $$(nproc))))

test: test-deps
	cargo fmt --all --check
	$(LINTED) cargo build --workspace --bins --examples
	@if command -v cargo-nextest >/dev/null; then $(LINTED) cargo nextest run --workspace --no-fail-fast --test-threads $(THREADS); \
		passed=$$?; scripts/suites; exit $$passed; \
	else $(LINTED) cargo test --workspace --no-fail-fast; fi
	scripts/test-arm

test-deps: .venv/.done
	@scripts/install-test-services

.venv/.done: scripts/test-requirements.txt
	@scripts/install-test-services
	python3 -m venv .venv
	.venv/bin/pip install --quiet -r scripts/test-requirements.txt
	@touch $@

screens: test-deps
	SCREENS=$(CURDIR)/target/screens cargo test --quiet -p collector -p shared -p edge-agent --test browser -- --nocapture

bench:
	@scripts/bench $(ARGS)

cross:
	cross/build.sh aarch64 armv7

packages: cross
	cross/package.sh
