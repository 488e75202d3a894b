// A program for timers: ends the run at the fifth tick.

#include "rt.h"

SEC("perf_event") int p_fifth(void *ctx)
{
	u32 key = 0;
	u64 *value = map_lookup(&hits, &key);
	if (value && (*value)++ == 4)
		send(1, 3);
	else
		send(0, 30);
	return 0;
}
