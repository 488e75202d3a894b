# What there is to do here; `make help` lists it. Whatever is longer than three
# lines is a program: tools/setup, tools/demo, tests/vm/run, or a test.

# Tracing needs root. Everything is built as the calling user; only the built
# tests and the binary itself run as root.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo -E)
AS_ROOT := $(if $(SUDO),--config "target.'cfg(unix)'.runner='sudo -E'")

.DEFAULT_GOAL := help
RUN_SIDE := target/run-side/$(shell uname -m)-unknown-linux-gnu/run-side/rtrace-run

.PHONY: help setup demo build run-side test bless bench lint vm fuzz soak clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (says what, and why, first)
	@tools/setup build test vm

demo: ## build rtrace and watch the live kernel for a few seconds
	@tools/setup build
	cargo build --release --bin rtrace
	@$(SUDO) tools/demo target/release/rtrace

build: ## build target/release/rtrace
	@tools/setup build
	cargo build --release --bin rtrace
	@$(MAKE) --no-print-directory run-side

run-side: ## build target/release/rtrace-run, which stand-alone executables consist of
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile run-side --no-default-features --features bpf \
	  --bin rtrace-run --target $(shell uname -m)-unknown-linux-gnu --target-dir target/run-side
	@mkdir -p target/release && cp $(RUN_SIDE) target/release/

test: ## every test: goldens, the live kernel, and kernels 6.1 and 6.12 in QEMU
	@tools/setup build test vm
	cargo test --no-fail-fast $(AS_ROOT)

vm: ## the runtime cases, rejected programs and pinned runs on kernels 5.10, 6.18 and 7.2
	@tools/setup build test vm
	RTRACE_VM_KERNELS=5.10,6.18,7.2 cargo test $(AS_ROOT) --test vm
	RTRACE_VM_KERNELS=5.10,6.18,7.2 cargo test $(AS_ROOT) --test pins
	@# Emulated, a million instructions take the verifier half an hour.
	RTRACE_VM_KERNELS=5.10,6.18,7.2 cargo test $(AS_ROOT) --test objects -- rejected --skip too-long

bless: ## accept what rtrace says now: tests/golden, docs/reference
	RTRACE_BLESS=1 cargo test --test golden
	RTRACE_BLESS=1 cargo test --test docs reference

bench: ## costs next to those of others in the same run (BENCH="startup compile events mechanisms output scale")
	@tools/setup build bench
	cargo build --release --bin rtrace
	@$(MAKE) --no-print-directory run-side
	cargo bench $(AS_ROOT) --profile dev --bench measure -- $(BENCH)

lint: ## formatting, clippy, and each cargo feature on its own
	cargo fmt --check && cargo clippy --all-targets -- -D warnings
	cargo check --no-default-features && cargo check --no-default-features --features bpf
	cargo check --no-default-features --features llvm

fuzz: ## run every fuzz target for a minute each (SECONDS=60)
	@tools/fuzz $(or $(SECONDS),60)

soak: ## a 20-minute run under load, thousands of random expressions and programs (SECONDS=1200 RTRACE_SEED=1)
	@tools/setup build test vm
	RTRACE_EXPRESSIONS=10000 cargo test $(AS_ROOT) --test expressions
	RTRACE_PROGRAMS=1000 cargo test $(AS_ROOT) --test runtime random-programs
	RTRACE_PROGRAMS=1000 RTRACE_VM_KERNELS=5.10,6.1,6.12,6.18,7.2 cargo test $(AS_ROOT) --test vm random-programs
	RTRACE_SOAK_SECONDS=$(or $(SECONDS),1200) RTRACE_RUNS=20 cargo test $(AS_ROOT) --test runs -- --nocapture

clean: ## remove what was built; downloaded kernels stay
	cargo clean
