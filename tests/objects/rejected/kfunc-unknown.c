// A function that this kernel does not have.

#include "../rt.h"

extern void rtrace_no_such_function(void *task) __attribute__((section(".ksyms"))); // here

SEC("raw_tp") int p_begin(void *ctx)
{
	rtrace_no_such_function(ctx);
	return 0;
}
