// A loop without an end.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("r2 = 0; 1: if r2 == 0 goto 1b" ::: "r2"); // here
	return 0;
}
