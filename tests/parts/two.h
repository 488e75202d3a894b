/* Included by one.h. */
#include "one.h"
#define NAME_LENGTH 12
struct two { long x; };
