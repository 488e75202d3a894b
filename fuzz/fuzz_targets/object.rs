//! Any bytes are an object of ours or an error, and so are any bytes behind an executable, and in
//! what is kept of a pinned run. Plans that are read can be asked for what others ask of them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rtrace::object::any_bytes(bytes));
