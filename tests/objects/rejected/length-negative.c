// A length that may be negative.

#include "../rt.h"

static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)113;

SEC("raw_tp") int p_begin(void *ctx)
{
	u64 room[2];
	long long n = current_pid_tgid();
	if (n > 16)
		return 0;
	return read_kernel(room, n, ctx); // here
}
