// A division by a constant zero.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("r2 = 1; r2 /= 0" ::: "r2"); // here
	return 0;
}
