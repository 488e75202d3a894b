/* Functions that scripts import: called by tests/runtime/functions/linked.bt. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

__u64 first = 100;

__noinline int triple(int number)
{
	return number * 3;
}

/* A map and a variable of the object's own. */
__noinline __u64 ticket(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&calls, &zero);

	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	return first + *count;
}

__noinline int fill(__u64 *out)
{
	if (!out)
		return -1;
	*out = 42;
	return 7;
}

static __noinline int hidden(int number)
{
	return number + (int)bpf_get_prandom_u32();
}

__noinline __u8 low(__u64 number)
{
	return (__u8)(hidden(0) * 0 + number);
}

/* No script asks for it, so it is not loaded. */
SEC("kprobe/no_such_function") int unused(void *ctx)
{
	return triple(3);
}

char LICENSE[] SEC("license") = "GPL";
