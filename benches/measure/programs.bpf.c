// What a programmer would write by hand for each script of `events.rs`: the
// same raw tracepoints, per-CPU values that are changed in place, a ring
// buffer whose records are filled in place.
//
// SPDX-License-Identifier: Apache-2.0
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

typedef __u32 u32;
typedef __u64 u64;

char LICENSE[] SEC("license") = "GPL";

#if defined(__TARGET_ARCH_x86)
enum { NR_READ = 0, NR_GETPPID = 110, NR_OPENAT = 257 };
struct pt_regs {
	unsigned long si, di, dx, orig_ax;
} __attribute__((preserve_access_index));
#define ARGUMENT1(regs) (regs)->di
#define ARGUMENT2(regs) (regs)->si
#define ARGUMENT3(regs) (regs)->dx
#define NUMBER(regs) (regs)->orig_ax
#else
enum { NR_READ = 63, NR_GETPPID = 173, NR_OPENAT = 56 };
struct user_pt_regs {
	unsigned long regs[31];
} __attribute__((preserve_access_index));
struct pt_regs {
	struct user_pt_regs user_regs;
	unsigned long orig_x0;
	int syscallno;
} __attribute__((preserve_access_index));
#define ARGUMENT1(r) (r)->orig_x0
#define ARGUMENT2(r) (r)->user_regs.regs[1]
#define ARGUMENT3(r) (r)->user_regs.regs[2]
#define NUMBER(r) (r)->syscallno
#endif

#define MAX_KEYS 4096

#define MAP(kind, name, entries, K, V)                                         \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_##kind);                             \
		__uint(max_entries, entries);                                  \
		__type(key, K);                                                \
		__type(value, V);                                              \
	} name SEC(".maps")

struct comm {
	char text[16];
};
struct comm_fd {
	char text[16];
	u64 fd;
};
struct buckets {
	u64 counts[66];
};

MAP(PERCPU_ARRAY, total, 1, u32, u64);
MAP(PERCPU_HASH, comms, MAX_KEYS, struct comm, u64);
MAP(PERCPU_HASH, pids, MAX_KEYS, u32, u64);
MAP(PERCPU_HASH, ips, MAX_KEYS, u64, u64);
MAP(PERCPU_HASH, comm_fds, MAX_KEYS, struct comm_fd, u64);
MAP(PERCPU_ARRAY, log2s, 1, u32, struct buckets);
MAP(PERCPU_ARRAY, steps, 1, u32, struct buckets);
MAP(HASH, starts, MAX_KEYS, u32, u64);
MAP(PERCPU_HASH, stack_counts, MAX_KEYS, u32, u64);

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, MAX_KEYS);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 127 * sizeof(u64));
} stack_traces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

// What is lost is counted.
u64 lost;

static const u64 zero;

// The value for a key, which is made if it is not there.
static __always_inline u64 *entry(void *map, const void *key)
{
	u64 *value = bpf_map_lookup_elem(map, key);
	if (!value) {
		bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
		value = bpf_map_lookup_elem(map, key);
		if (!value)
			__sync_fetch_and_add(&lost, 1);
	}
	return value;
}

static __always_inline u32 log2(u64 v)
{
	u32 power = 0, by;

	by = (v > 0xffffffff) << 5; v >>= by; power |= by;
	by = (v > 0xffff) << 4; v >>= by; power |= by;
	by = (v > 0xff) << 3; v >>= by; power |= by;
	by = (v > 0xf) << 2; v >>= by; power |= by;
	by = (v > 0x3) << 1; v >>= by; power |= by;
	return power | (v > 1);
}

// Below zero, zero, then one for each power of two.
static __always_inline void add_log2(long long value)
{
	u32 key = 0, bucket = value < 0 ? 0 : value == 0 ? 1 : log2(value) + 2;
	struct buckets *b = bpf_map_lookup_elem(&log2s, &key);
	if (b && bucket < 66)
		b->counts[bucket]++;
}

SEC("raw_tp/sys_enter")
int nothing(u64 *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int counts(u64 *ctx)
{
	if (ctx[1] != NR_GETPPID)
		return 0;
	u32 key = 0;
	u64 *count = bpf_map_lookup_elem(&total, &key);
	if (count)
		++*count;
	return 0;
}

SEC("raw_tp/sys_enter")
int by_comm(u64 *ctx)
{
	if (ctx[1] != NR_GETPPID)
		return 0;
	struct comm key;
	bpf_get_current_comm(&key, sizeof key);
	u64 *count = entry(&comms, &key);
	if (count)
		++*count;
	return 0;
}

SEC("raw_tp/sys_enter")
int by_pid(u64 *ctx)
{
	if (ctx[1] != NR_GETPPID)
		return 0;
	u32 key = bpf_get_current_pid_tgid() >> 32;
	u64 *count = entry(&pids, &key);
	if (count)
		++*count;
	return 0;
}

SEC("raw_tp/sys_enter")
int predicate(u64 *ctx)
{
	if (ctx[1] != NR_GETPPID)
		return 0;
	if (bpf_get_current_pid_tgid() >> 32 != WANTED_PID)
		return 0;
	u32 key = 0;
	u64 *count = bpf_map_lookup_elem(&total, &key);
	if (count)
		++*count;
	return 0;
}

SEC("tp_btf/sys_enter")
int two_keys(u64 *ctx)
{
	if (ctx[1] != NR_READ)
		return 0;
	struct pt_regs *regs = (void *)ctx[0];
	struct comm_fd key;
	bpf_get_current_comm(key.text, sizeof key.text);
	key.fd = (u32)ARGUMENT1(regs);
	u64 *count = entry(&comm_fds, &key);
	if (count)
		++*count;
	return 0;
}

SEC("tp_btf/sys_enter")
int sums(u64 *ctx)
{
	if (ctx[1] != NR_READ)
		return 0;
	struct pt_regs *regs = (void *)ctx[0];
	struct comm key;
	bpf_get_current_comm(&key, sizeof key);
	u64 *sum = entry(&comms, &key);
	if (sum)
		*sum += ARGUMENT3(regs);
	return 0;
}

SEC("tp_btf/sys_enter")
int histogram(u64 *ctx)
{
	if (ctx[1] != NR_READ)
		return 0;
	struct pt_regs *regs = (void *)ctx[0];
	add_log2(ARGUMENT3(regs));
	return 0;
}

SEC("tp_btf/sys_enter")
int linear(u64 *ctx)
{
	if (ctx[1] != NR_READ)
		return 0;
	struct pt_regs *regs = (void *)ctx[0];
	long long value = ARGUMENT3(regs);
	u32 key = 0, bucket;
	if (value < 0)
		bucket = 0;
	else if (value >= 4096)
		bucket = 65;
	else
		bucket = (u64)value / 64 + 1;
	struct buckets *b = bpf_map_lookup_elem(&steps, &key);
	if (b && bucket < 66)
		b->counts[bucket]++;
	return 0;
}

SEC("raw_tp/sys_enter")
int latency_enter(u64 *ctx)
{
	if (ctx[1] != NR_READ)
		return 0;
	u64 now = bpf_ktime_get_boot_ns();
	u32 tid = bpf_get_current_pid_tgid();
	if (bpf_map_update_elem(&starts, &tid, &now, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
	return 0;
}

SEC("tp_btf/sys_exit")
int latency_exit(u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	if (NUMBER(regs) != NR_READ)
		return 0;
	u32 tid = bpf_get_current_pid_tgid();
	u64 *start = bpf_map_lookup_elem(&starts, &tid);
	if (!start || !*start)
		return 0;
	add_log2(bpf_ktime_get_boot_ns() - *start);
	bpf_map_delete_elem(&starts, &tid);
	return 0;
}

SEC("raw_tp/sys_enter")
int stacks(u64 *ctx)
{
	if (ctx[1] != NR_GETPPID)
		return 0;
	long id = bpf_get_stackid(ctx, &stack_traces, 0);
	if (id < 0) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	u32 key = id;
	u64 *count = entry(&stack_counts, &key);
	if (count)
		++*count;
	return 0;
}

struct printed {
	u64 id;
	char comm[16];
	u32 pid;
};

SEC("raw_tp/sys_enter")
int prints(u64 *ctx)
{
	if (ctx[1] != NR_GETPPID)
		return 0;
	struct printed *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);
	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	e->id = 0;
	bpf_get_current_comm(e->comm, sizeof e->comm);
	e->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

struct path {
	u64 id;
	char comm[16];
	char path[1024];
};

SEC("tp_btf/sys_enter")
int paths(u64 *ctx)
{
	if (ctx[1] != NR_OPENAT)
		return 0;
	struct pt_regs *regs = (void *)ctx[0];
	struct path *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);
	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	e->id = 0;
	bpf_get_current_comm(e->comm, sizeof e->comm);
	bpf_probe_read_user_str(e->path, sizeof e->path, (void *)ARGUMENT2(regs));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* For many functions at once; what the kernel takes for the link alone. */
SEC("kprobe.multi")
int functions(void *ctx)
{
	return 0;
}

/* The same with the work of the script: while the kernel attaches and detaches, it calls functions
 * that are traced already. */
SEC("kprobe.multi")
int functions_counted(void *ctx)
{
	u64 key = bpf_get_func_ip(ctx);
	u64 *count = entry(&ips, &key);
	if (count)
		++*count;
	return 0;
}
