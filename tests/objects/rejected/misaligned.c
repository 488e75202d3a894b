// A word that does not lie on its boundary.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("*(u64 *)(r10 - 12) = 0"); // here
	return 0;
}
