// More memory than a program has on its stack.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("*(u64 *)(r10 - 520) = 0"); // here
	return 0;
}
