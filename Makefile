# Everything that is done to the code. `make` alone lists it.
#
# A fresh machine needs rustup's cargo, a C compiler, make and Python 3.9 or later, with pip and venv (3.11 or later for
# lints, benchmarks and programs from PyPI). What else is used comes from crates.io and PyPI, into the folder target/.

NEXTEST_VERSION := 0.9.151
MIRI_TOOLCHAIN ?= nightly
LOOM_MAX_PREEMPTIONS ?= 2
SHUTTLE_ROUNDS ?= 1000
SECONDS ?= 60
PYTHON ?= python3

TOOLS := $(CURDIR)/target/tools
export PATH := $(PATH):$(TOOLS)/bin

STEP := @scripts/step.sh
FAULTS := --features procpool/faults
FUZZ := env CARGO_TARGET_DIR=target/fuzz
# For runners that know no time limit. It ends the whole process group, which a terminal's Ctrl-C would not reach.
LIMIT := timeout --kill-after=5 $(shell test -t 0 && echo --foreground) 900

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test test-pool test-libtest test-doc test-links test-python test-pythons test-cpython test-programs \
	test-package test-fuzz faults faults-check chaos chaos-rust chaos-python fuzz fuzz-keep loom shuttle miri bench bench-quick \
	bench-rust bench-python bench-scaling bench-page bench-check lint format clippy docs python-lint licences deny clean nextest

help: ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 16

demo: ## Show the pool at work: stopping, finishing, surviving crashes
	@scripts/demo.sh

test: test-pool test-libtest test-doc test-links test-fuzz loom shuttle test-python ## Run the tests of both languages

test-pool: nextest ## Run the tests, each in a process of its own; one that hangs is killed and named
	$(STEP) "tests, a process each" cargo nextest run --locked --workspace $(FAULTS)

test-libtest: ## Run the typed crate's tests once more, all of a file in one process
	@cargo build --quiet --locked -p procpool --examples
	$(STEP) "tests, sharing a process" $(LIMIT) cargo test --locked --no-fail-fast -p procpool --tests

test-doc: ## Run the examples in the documentation
	$(STEP) "examples in the documentation" $(LIMIT) cargo test --locked --no-fail-fast --workspace --doc

test-links: ## Run one program in every profile and with every linker that is here
	$(STEP) "profiles and linkers" scripts/test-links.sh

test-fuzz: ## Read the inputs again that fuzzers once found worth keeping
	$(STEP) "inputs of the fuzz targets" $(LIMIT) $(FUZZ) cargo test --locked --manifest-path fuzz/Cargo.toml

test-python: ## Build the Python package for PYTHON (python3) into target/venv, and run its tests
	$(STEP) "tests in Python" scripts/test-python.sh $(PYTHON)

test-pythons: ## The same for every other interpreter that is here
	$(STEP) "tests in other versions of Python" scripts/test-python.sh $(shell scripts/pythons.sh $(PYTHON))

test-cpython: ## Run CPython's own tests of pools and executors, with every interpreter and start method
	$(STEP) "CPython's own tests" scripts/with-pythons.sh $(PYTHON) tests/cpython/run.py

test-programs: ## Run programs from PyPI, unchanged, on procpool, and compare what they do
	$(STEP) "programs from PyPI" scripts/test-programs.sh $(PYTHON)

test-package: ## Build the source distribution, install it as pip does, and use it
	$(STEP) "package" scripts/test-package.sh $(PYTHON)

chaos: chaos-rust chaos-python ## Torment pools for SECONDS (60) in each language, from a SEED (random, and printed); check all promises

chaos-rust: ## The Rust part of it
	@cargo run --quiet --locked --release -p procpool-chaos -- --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

chaos-python: ## The Python part of it
	@scripts/chaos-python.sh $(PYTHON) $(SECONDS) $(or $(SEED),$(shell date +%s))

faults: ## Do to procpool and its peers all that goes wrong with pools, and write docs/faults.md; takes twelve minutes
	$(STEP) "faults" scripts/faults.sh $(PYTHON)

faults-check: ## The same to procpool alone, on a machine that may have other work; writes nothing
	$(STEP) "faults" scripts/faults.sh $(PYTHON) --peer procpool --slack 10

loom: nextest ## Walk the models of slot, queue, wake, ended and arena through all orders of events
	$(STEP) "models" env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) \
		cargo nextest run --locked --release -p procpool-engine --lib -E 'test(loom)'

shuttle: nextest ## Let workers vanish anywhere in models of the whole engine, in SHUTTLE_ROUNDS (1000) of orders of events
	$(STEP) "models of the whole engine" env RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle SHUTTLE_ROUNDS=$(SHUTTLE_ROUNDS) \
		cargo nextest run --locked --release -p procpool-engine --lib -E 'test(/^whole::/)'

fuzz: ## Let fuzzers make up what is read from other processes, SECONDS=60 for each target
	@scripts/fuzz.sh $(SECONDS)
	@$$(scripts/python-env.sh $(PYTHON)) tests/python/result_stream.py --seconds $(SECONDS)

fuzz-keep: ## Keep the inputs that they found worth it
	@scripts/fuzz.sh keep

miri: ## Run under miri what needs no system calls (needs a toolchain that has miri)
	@cargo +$(MIRI_TOOLCHAIN) miri --version >/dev/null 2>&1 || { \
		echo "the toolchain $(MIRI_TOOLCHAIN) has no miri: rustup component add miri --toolchain $(MIRI_TOOLCHAIN)"; \
		exit 1; }
	$(STEP) "miri" env CARGO_TARGET_DIR=target/miri cargo +$(MIRI_TOOLCHAIN) miri test --locked -p procpool-engine --lib

bench: bench-rust bench-python ## Measure procpool beside its rivals; takes minutes, and wants the machine to itself

bench-rust: ## The Rust part of it
	cargo run --locked --release -p procpool-benches

bench-python: ## The Python part of it
	@scripts/bench-python.sh $(PYTHON)

bench-quick: ## Measure just long enough to see that nothing became slow
	cargo run --locked --release -p procpool-benches -- --quick
	@scripts/bench-python.sh $(PYTHON) --quick

bench-scaling: ## Measure how cost grows with tasks, payloads, workers, callers, length, load and time, and draw it
	@scripts/bench-scaling.sh $(PYTHON)

bench-page: ## Take over what bench and bench-scaling measured into docs/performance.md
	@scripts/bench-page.sh $(PYTHON)

bench-check: ## Measure briefly, and name what became worse than docs/performance.md says, by more than the noise
	@scripts/bench-check.sh $(PYTHON)

lint: format clippy docs python-lint licences ## Check format, lints, types, documentation and licences

format:
	$(STEP) "format" cargo fmt --all --check
	$(STEP) "format of the fuzz targets" cargo fmt --manifest-path fuzz/Cargo.toml --check

clippy:
	$(STEP) "lints" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	$(STEP) "lints, with faults" cargo clippy --quiet --locked --workspace --all-targets $(FAULTS) -- -D warnings
	$(STEP) "lints, without the hook" cargo clippy --quiet --locked -p procpool --no-default-features -- -D warnings
	$(STEP) "lints of the fuzz targets" $(FUZZ) cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings

docs:
	$(STEP) "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps

python-lint:
	$(STEP) "lints and types in Python" scripts/lint-python.sh $(PYTHON)

licences:
	@$(PYTHON) -m doctest scripts/licences.py
	$(STEP) "licences and sources" $(PYTHON) scripts/licences.py

deny: ## Check licences, sources and security advisories with cargo-deny, where it is installed (wants a network)
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --locked check licenses bans sources && cargo deny --locked check advisories; \
	else \
		echo "cargo-deny is not installed: advisories are not checked (cargo install --locked cargo-deny)"; \
		$(MAKE) --no-print-directory licences; \
	fi

clean: ## Remove all that was built, tools included
	cargo clean
	rm -f python/procpool/*.so

# A test runner that is there already does as well. This one is built without optimisation: it waits most of the time,
# and is built in a third of the time.
nextest:
	@cargo nextest --version >/dev/null 2>&1 || scripts/step.sh "build the test runner" \
		cargo install --quiet --locked --debug cargo-nextest --version $(NEXTEST_VERSION) --root $(TOOLS) \
		--no-default-features --features default-no-update
