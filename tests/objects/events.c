// Programs that send events, for what the run side does about them.

#include "rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	send(0, 1);
	return 0;
}

SEC("raw_tp") int p_end(void *ctx)
{
	send(0, 2);
	return 0;
}

SEC("raw_tp") int p_begin_exit(void *ctx)
{
	send(1, 7);
	send(0, 99);
	return 0;
}

// Two for the same spot, to see which runs first.
#define PAIR(name, section)                     \
	SEC(section) int p_first_##name(void *ctx)  \
	{                                           \
		if (ours())                             \
			send(0, 10);                        \
		return 0;                               \
	}                                           \
	SEC(section) int p_second_##name(void *ctx) \
	{                                           \
		if (ours())                             \
			send(0, 20);                        \
		return 0;                               \
	}

PAIR(kprobe, "kprobe")
PAIR(kprobe_multi, "kprobe.multi")
PAIR(uprobe_multi, "uprobe.multi")
PAIR(tracepoint, "tp/x/y")
PAIR(raw_tp, "raw_tp/x")
PAIR(tp_btf, "tp_btf/x")
PAIR(fentry, "fentry/x")
PAIR(fexit, "fexit/x")

// Ends the run at the fifth call.
SEC("uprobe") int p_fifth(void *ctx)
{
	u32 key = 0;
	u64 *value = map_lookup(&hits, &key);
	if (value && (*value)++ == 4)
		send(1, 3);
	else
		send(0, 30);
	return 0;
}

// More than the ring buffer holds.
SEC("uprobe") int p_flood(void *ctx)
{
	for (int i = 0; i < 300; i++)
		send(0, i);
	return 0;
}

// Each call of the child's has a number.
SEC("raw_tp/x") int p_numbered(u64 *ctx)
{
	u32 key = 1;
	u64 *value = map_lookup(&hits, &key);
	if (value && ours() && ctx[1] == NR_GETPPID)
		send(0, (*value)++);
	return 0;
}
