//! Any bytes decode by any layout, and compare with any others. The input is a layout as JSON,
//! a newline, and the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtrace::plan::Layout;
use rtrace::runtime::decode::{compare, decode};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (Some(layout), Some(bytes)) = (parts.next(), parts.next()) else { return };
    let Ok(layout) = serde_json::from_slice::<Layout>(layout) else { return };
    let text = format!("{:?}", decode(&layout, bytes));
    assert!(!text.is_empty());
    let (front, back) = bytes.split_at(bytes.len() / 2);
    assert_eq!(compare(&layout, front, back), compare(&layout, back, front).reverse());
});
