// An index into an array on the stack that may be anything.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	volatile u64 room[4] = {};
	return room[current_pid_tgid()]; // here
}
