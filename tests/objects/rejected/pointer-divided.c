// A computation that pointers do not know.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u32 key = 0;
	u64 *value = map_lookup(&hits, &key);
	if (!value)
		return 0;
	return *(u64 *)((u64)value / 3); // here
}
