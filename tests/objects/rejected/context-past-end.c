// A word that the context does not have.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	return ((u64 *)ctx)[40]; // here
}
