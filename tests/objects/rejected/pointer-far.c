// A pointer is moved further than any value is long.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u32 key = 0;
	char *value = map_lookup(&hits, &key);
	if (!value)
		return 0;
	__asm__ volatile("%0 += 0x40000000" : "+r"(value)); // here
	return *value;
}
