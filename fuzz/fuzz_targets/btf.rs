//! Any bytes are type information or an error, and what is read from them can be asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtrace::host::btf::Btf;

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = Btf::from_bytes(bytes.to_vec()) else { return };
    for name in btf.functions("vmlinux").into_iter().take(16) {
        _ = btf.function(name);
    }
    for text in ["struct task_struct", "int", "pid_t *", "enum e", "union u"] {
        if let Some(found) = btf.parse_type(text) {
            _ = found.to_string();
        }
    }
});
