// One program per way to attach; each counts under its own number what the
// child does.

#include "rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	count(0);
	send(0, 100);
	return 0;
}

SEC("raw_tp") int p_end(void *ctx)
{
	count(15);
	send(0, 200);
	return 0;
}

SEC("raw_tp/sys_enter") int p_raw_tp(u64 *ctx)
{
	if (ours() && ctx[1] == NR_GETPPID)
		count(1);
	return 0;
}

SEC("tp_btf/sys_enter") int p_tp_btf(u64 *ctx)
{
	if (ours() && ctx[1] == NR_GETPPID)
		count(2);
	return 0;
}

SEC("tp/raw_syscalls/sys_enter") int p_tracepoint(u64 *ctx)
{
	if (ours() && ctx[1] == NR_GETPPID)
		count(3);
	return 1;
}

SEC("uprobe") int p_uprobe(void *ctx)
{
	count(4);
	return 0;
}

SEC("uprobe.multi") int p_uprobe_multi(void *ctx)
{
	count(attach_cookie(ctx));
	return 0;
}

SEC("perf_event") int p_profile(void *ctx)
{
	if (ours())
		count(7);
	return 0;
}

SEC("kprobe") int p_kprobe(void *ctx)
{
	if (ours())
		count(8);
	return 0;
}

SEC("kprobe.multi") int p_kprobe_multi(void *ctx)
{
	if (ours())
		count(attach_cookie(ctx));
	return 0;
}

SEC("fentry/x") int p_fentry(u64 *ctx)
{
	if (ours())
		count(11);
	return 0;
}

SEC("fexit/x") int p_fexit(u64 *ctx)
{
	if (ours())
		count(12);
	return 0;
}
