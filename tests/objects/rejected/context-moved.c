// The context is read by a pointer that was moved.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("r1 += 8; r2 = *(u64 *)(r1 + 0)" ::: "r1", "r2"); // here
	return 0;
}
