// The program ends before it has a result.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("if r1 == 0 goto +1; exit"); // here
	return 0;
}
