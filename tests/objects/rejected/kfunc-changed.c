// A function of the kernel with other arguments.

#include "../rt.h"

extern void bpf_task_release(u64 a, u64 b) __attribute__((section(".ksyms"))); // here

SEC("raw_tp") int p_begin(void *ctx)
{
	bpf_task_release(1, 2);
	return 0;
}
