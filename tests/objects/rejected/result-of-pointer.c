// A pointer of one kind where another is wanted.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u64 *value = map_lookup(ctx, &hits); // here
	return value ? *value : 0;
}
