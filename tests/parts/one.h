/* Included by the cases of imports. */
#ifndef ONE_H
#define ONE_H
#include "two.h"
typedef unsigned int number_t;
struct one {
	int a;
	char name[NAME_LENGTH];
	struct two in;
};
static inline int never(int x) { return x + 1; }
#define DOUBLE_LENGTH (NAME_LENGTH * 2)
#endif
