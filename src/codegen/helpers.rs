//! Numbers (`enum bpf_func_id`, linux/bpf.h) of the helpers that statements
//! turn into. Those that scripts call by themselves are in [`crate::ir::Helper`].

pub(super) const MAP_LOOKUP_ELEM: u32 = 1;
pub(super) const RINGBUF_RESERVE: u32 = 131;
pub(super) const RINGBUF_SUBMIT: u32 = 132;
pub(super) const FOR_EACH_MAP_ELEM: u32 = 164;
pub(super) const LOOP: u32 = 181;
pub(super) const MAP_LOOKUP_PERCPU_ELEM: u32 = 195;
