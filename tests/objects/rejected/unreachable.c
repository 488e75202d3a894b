// Code that nothing jumps to.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("r0 = 0; exit");
	return 1; // here
}
