// A loop with more rounds than the verifier follows.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	u64 sum = 0;
	for (u64 i = 0; i < 4000000; i++) // here
		sum += i ^ (sum >> 3);
	return sum;
}
