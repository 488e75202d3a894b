// A shift by more bits than there are.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	__asm__ volatile("r2 = 1; r2 <<= 64" ::: "r2"); // here
	return 0;
}
