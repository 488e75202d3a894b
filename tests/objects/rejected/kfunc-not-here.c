// A function of the kernel that such programs may not call.

#include "../rt.h"

struct task_struct {
	int pid;
};
extern void bpf_task_release(struct task_struct *p) __attribute__((section(".ksyms")));

SEC("raw_tp") int p_begin(void *ctx)
{
	bpf_task_release(ctx); // here
	return 0;
}
