// A length that may be zero where something must be stored.

#include "../rt.h"

static long (*current_comm)(void *to, u32 size) = (void *)16;

SEC("raw_tp") int p_begin(void *ctx)
{
	char room[16];
	return current_comm(room, current_pid_tgid() & 15); // here
}
