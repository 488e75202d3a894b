// A number is followed as if it were a pointer.

#include "../rt.h"

SEC("raw_tp") int p_begin(void *ctx)
{
	return *(u64 *)current_pid_tgid(); // here
}
