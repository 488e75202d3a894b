//! Any bytes are an object of ours or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    _ = rtrace::object::Object::from_bytes(bytes.to_vec());
});
