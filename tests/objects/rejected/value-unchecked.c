// An element of a map is used although it may not be there.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u32 key = current_pid_tgid();
	u64 *value = map_lookup(&hits, &key);
	return *value; // here
}
