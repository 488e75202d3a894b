/* A shared library with markers (USDT): the arguments are wherever the compiler has them. `round`
 * is in two places with different operands, `twin` twice in one place, `busy` does not run unless
 * somebody watches. */

#define NOTE(name, counter, arguments) "990: nop\n" ABOUT(name, counter, arguments)

/* A note about the instruction of the one before. */
#define ABOUT(name, counter, arguments)                                    \
    ".pushsection .note.stapsdt, \"\", %%note\n"                           \
    ".balign 4\n"                                                          \
    ".4byte 8, 992f - 991f, 3\n"                                           \
    ".asciz \"stapsdt\"\n"                                                 \
    "991: .8byte 990b, _.stapsdt.base, " counter "\n"                      \
    ".asciz \"rtlib\"\n"                                                   \
    ".asciz \"" name "\"\n"                                                \
    ".asciz \"" arguments "\"\n"                                           \
    "992: .balign 4\n"                                                     \
    ".popsection\n"                                                        \
    ".ifndef _.stapsdt.base\n"                                             \
    ".pushsection .stapsdt.base, \"aG\", %%progbits, .stapsdt.base, comdat\n" \
    ".weak _.stapsdt.base\n"                                               \
    ".hidden _.stapsdt.base\n"                                             \
    "_.stapsdt.base: .space 1\n"                                           \
    ".size _.stapsdt.base, 1\n"                                            \
    ".popsection\n"                                                        \
    ".endif\n"

unsigned short rt_busy_counter __attribute__((section(".probes"), used, visibility("hidden")));

static int sum;
static long numbers[4] = {0, 1, 2, 3};

static inline __attribute__((always_inline)) void mark(int i, long n) {
    __asm__ volatile(NOTE("round", "0", "-4@%0 -8@%1 -4@%2") ::"nor"(i), "nor"(n), "nor"(sum));
}

enum rt_flag { RT_BLUE = 1, RT_RED = 5 };

struct rt_ship {
    const char *name;
    unsigned int deck : 3;
    unsigned int crew : 7;
    enum rt_flag flag;
    struct rt_ship *next;
    char sign[4];
    union {
        int tons;
        unsigned char bytes[4];
    };
};

static struct rt_ship last = {"last", 1, 2, RT_BLUE, 0, "LAST", {7}};

/* The line numbers are those that cases name. */
#line 100 "parts/ship.c"
__attribute__((noinline)) long rt_load(struct rt_ship *ship, int tons, double ratio, char *to) {
    ship->tons += tons;
    return ship->tons * (ratio > 1 ? 2 : 1) + to[0];
}
static inline __attribute__((always_inline)) int rt_inlined(int i) {
    __asm__ volatile("nop" : "+r"(i));
    return i;
}
#line 77 "library.c"

#if defined(__x86_64__)
// Every kind of place that a note can name, as in the program's `rtrace:shapes`; with and without a
// counter of who watches.
#define SHAPES                                                                             \
    "-4@$-5 8@$12345678901 -4@%eax 4@%eax 8@%rbx -1@%ah 2@%r10w -8@(%rsp) -4@-20(%rbp) " \
    "4@8(%rsi,%rbx,4) -2@rt_lib_word(%rip) 8@rt_lib_table+8(%rip)"

unsigned short rt_shapes_counter __attribute__((section(".probes"), used, visibility("hidden")));

#define TOP_NOTE(site, name, counter)         \
    ".pushsection .note.stapsdt, \"\", @note\n" \
    ".balign 4\n"                             \
    ".4byte 8, 982f - 981f, 3\n"              \
    ".asciz \"stapsdt\"\n"                    \
    "981: .8byte " site ", _.stapsdt.base, " counter "\n" \
    ".asciz \"rtlib\"\n"                      \
    ".asciz \"" name "\"\n"                   \
    ".asciz \"" SHAPES "\"\n"                 \
    "982: .balign 4\n"                        \
    ".popsection\n"

__asm__(".pushsection .data.rt_lib, \"aw\"\n"
        ".balign 8\n"
        ".local rt_lib_table\n"
        "rt_lib_table: .4byte 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150\n"
        ".size rt_lib_table, 64\n"
        ".type rt_lib_table, @object\n"
        ".local rt_lib_word\n"
        "rt_lib_word: .2byte -1234, 0\n"
        ".size rt_lib_word, 4\n"
        ".type rt_lib_word, @object\n"
        ".popsection\n"
        ".text\n"
        ".local rt_lib_shapes\n"
        ".type rt_lib_shapes, @function\n"
        "rt_lib_shapes:\n"
        "pushq %rbp\n"
        "movq %rsp, %rbp\n"
        "pushq %rbx\n"
        "subq $40, %rsp\n"
        "movq %rdi, %rbx\n"
        "movl $-3, %eax\n"
        "movl $0x12345, %r10d\n"
        "leaq rt_lib_table(%rip), %rsi\n"
        "movq %rdi, (%rsp)\n"
        "movl $-7, -20(%rbp)\n"
        "7701: nop\n"
        "7702: nop\n"
        "addq $40, %rsp\n"
        "popq %rbx\n"
        "popq %rbp\n"
        "ret\n"
        ".size rt_lib_shapes, . - rt_lib_shapes\n" TOP_NOTE("7701b", "shapes", "0")
            TOP_NOTE("7702b", "counted", "rt_shapes_counter"));

void rt_lib_shapes(unsigned long i);

// Begins with an instruction (`vzeroupper`) that kernels take for a jump where a probe is on it.
__asm__(".text\n"
        ".globl rt_wide\n"
        ".type rt_wide, @function\n"
        "rt_wide: .byte 0xc5, 0xf8, 0x77\n"
        "ret\n"
        ".size rt_wide, . - rt_wide\n");
#else
static void rt_lib_shapes(unsigned long i) { (void)i; }
#endif

/* Calls of one function inside each other. */
__attribute__((noinline)) long rt_sum(long n) {
    if (n <= 0) {
        return 0;
    }
    long rest = rt_sum(n - 1);
    __asm__ volatile("" : "+r"(rest));
    return n + rest;
}
/* A last call, a jump: both functions have the same return address. */
__attribute__((noinline)) long rt_sum_twice(long n) {
    return rt_sum(2 * n);
}

int rt_library(int i) {
    struct rt_ship first = {"first", 5, 100, RT_RED, &last, "fst", {i}};
    char port[] = "port";
    rt_load(&first, 10, 1.5, port);
    i = rt_inlined(rt_inlined(i));
    sum = -(int)rt_sum_twice(2);
    sum = -i;
    // What was never touched is not in memory yet, and no probe can read it.
    *(volatile long *)&numbers[i & 3] += 5;
    mark(i, numbers[i & 3]);
    mark(7, -1);
    rt_lib_shapes((unsigned long)i);
    __asm__ volatile(NOTE("twin", "0", "-4@%0") ABOUT("twin", "0", "-4@%1")::"nor"(i),
                     "nor"(i + 100));
    if (__builtin_expect(rt_busy_counter, 0)) {
        __asm__ volatile(NOTE("busy", "rt_busy_counter", "-4@%0")::"nor"(i));
    }
    return i;
}

/* For stacks through a library that is loaded late. */
__attribute__((noinline)) void rt_call_back(void (*function)(int), int n) {
    volatile long room[20];
    room[n] = n;
    function(n);
    sum += (int)room[n];
}
