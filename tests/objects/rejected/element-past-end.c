// A constant place behind the end of a value.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u32 key = 0;
	u64 *value = map_lookup(&hits, &key);
	if (!value)
		return 0;
	return value[1]; // here
}
