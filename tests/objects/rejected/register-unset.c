// A register is read before anything was put into it.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("r2 = r6" ::: "r2"); // here
	return 0;
}
