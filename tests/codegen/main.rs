//! Code generation, tested by running what it generates: IR modules built by
//! hand, loaded into the running kernel (as root) and run by
//! `BPF_PROG_TEST_RUN`, results compared exactly. The same binary runs under
//! the other kernels in `tests/vm`.

#![cfg(all(feature = "llvm", feature = "bpf"))]
#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod arithmetic;
mod case;
mod flow;
mod memory;
#[path = "../harness/random.rs"]
mod numbers;
mod random;
