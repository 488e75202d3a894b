// What the BPF programs of these tests need: types, helpers, the maps that
// the run side knows by name, and the plan, whose file the compiler is told.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

// linux/bpf.h, enum bpf_func_id.
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static u64 (*current_pid_tgid)(void) = (void *)14;
static long (*ringbuf_output)(void *map, void *data, u64 size, u64 flags) = (void *)130;
static u64 (*attach_cookie)(void *ctx) = (void *)174;

char _license[] SEC("license") = "GPL";

// Words as in the plan: process id of the child, boot clock at the start.
const volatile u64 params[2] SEC(".rodata.params") = {};

struct {
	__uint(type, 27);
	__uint(max_entries, 4096);
} rt_events SEC(".maps");

// A counter for the only cause of loss in the plan.
u64 rt_losses[1] SEC(".data.losses");

// The script's map `@`: how often each number was counted.
struct {
	__uint(type, 2);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, u64);
} hits SEC(".maps");

static void count(u32 number)
{
	u64 *value = map_lookup(&hits, &number);
	if (value)
		__sync_fetch_and_add(value, 1);
}

// An event that the plan prints as a number; the plan's event 1 is exit().
static void send(u32 event, u64 value)
{
	struct {
		u32 event, zero;
		u64 value;
	} record = {event, 0, value};
	if (ringbuf_output(&rt_events, &record, sizeof record, 0))
		__sync_fetch_and_add(&rt_losses[0], 1);
}

// Whether the child runs this.
static int ours(void)
{
	return current_pid_tgid() >> 32 == params[0];
}

__asm__(".section .rtrace.plan,\"\",@progbits\n.incbin \"" PLAN "\"\n.text\n");
