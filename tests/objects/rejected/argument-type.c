// A number where a helper takes memory.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u64 *value = map_lookup(&hits, (void *)8); // here
	return value ? *value : 0;
}
