// The same body at probes of every kind, as a programmer would write it by hand: a sum of one
// argument. Only the program of one case at a time is loaded, since kernels lack some kinds.
//
// Programs of uprobes can be preempted by themselves, so an exact sum takes an atomic addition there.
//
// SPDX-License-Identifier: Apache-2.0
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

static __always_inline int add(__u64 n)
{
	__u32 key = 0;
	__u64 *sum = bpf_map_lookup_elem(&total, &key);
	if (sum)
		*sum += n;
	return 0;
}

static __always_inline int add_atomically(__u64 n)
{
	__u32 key = 0;
	__u64 *sum = bpf_map_lookup_elem(&total, &key);
	if (sum)
		__sync_fetch_and_add(sum, n);
	return 0;
}

SEC("kprobe")
int by_kprobe(struct pt_regs *ctx)
{
	return add(PT_REGS_PARM3(ctx));
}

SEC("fentry/vfs_read")
int by_fentry(__u64 *ctx)
{
	return add(ctx[2]);
}

SEC("fexit/vfs_read")
int by_fexit(__u64 *ctx)
{
	return add(ctx[4]);
}

struct enter {
	__u64 common, number, args[6];
};

SEC("tp/syscalls/sys_enter_read")
int by_tracepoint(struct enter *ctx)
{
	add(ctx->args[2]);
	return 1;
}

SEC("tp_btf/sys_enter")
int by_tp_btf(__u64 *ctx)
{
	return add(ctx[1]);
}

SEC("uprobe.multi")
int by_uprobe(struct pt_regs *ctx)
{
	return add_atomically(PT_REGS_PARM1(ctx));
}

SEC("usdt")
int BPF_USDT(by_usdt, __u64 n)
{
	return add_atomically(n);
}
