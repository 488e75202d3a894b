// An index that is bounded, but not enough.

#include "../rt.h"

struct table {
	u64 v[4];
};

struct {
	__uint(type, 2);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct table);
} tables SEC(".maps");

SEC("raw_tp") int p_begin(void *ctx)
{
	u32 key = 0;
	struct table *t = map_lookup(&tables, &key);
	if (!t)
		return 0;
	u64 i = current_pid_tgid() & 7;
	return t->v[i]; // here
}
