// A constant is written to.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	*(volatile u64 *)&params[1] = 5; // here
	return 0;
}
