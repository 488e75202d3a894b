// A program with markers (USDT) and debug information, to be probed by tests that look only at
// the file. Built once, by
//   gcc -g -gdwarf-4 -O1 -fno-pie -no-pie -nostdlib -static -ffile-prefix-map=$PWD=/stall \
//       -fno-asynchronous-unwind-tables -Wl,-z,noseparate-code -Wl,--build-id=none \
//       -Wl,-e,main -o debian/usr/bin/stall stall.c
enum ripeness { GREEN, RIPE = 3, ROTTEN = -1 };

struct fruit {
    const char *name;
    unsigned int weight;
    unsigned int bruised : 1;
    unsigned int shelf : 5;
    enum ripeness ripeness;
    struct fruit *next;
    char label[8];
    union {
        int price;
        unsigned char bytes[4];
    };
};

typedef struct fruit fruit_t;

#define MARK(site, name, counter, arguments)                                              \
    ".pushsection .note.stapsdt, \"\", @note\n.balign 4\n.4byte 8, 2f - 1f, 3\n"          \
    ".asciz \"stapsdt\"\n1: .8byte " site ", 0, " counter "\n.asciz \"stall\"\n"          \
    ".asciz \"" name "\"\n.asciz \"" arguments "\"\n2: .balign 4\n.popsection\n"

unsigned short stall_counter __attribute__((section(".probes"), used));
int stall_open = 7;

__attribute__((noinline)) int stall_weigh(const fruit_t *fruit, int count, signed char sign) {
    int sum = 0;
    for (; fruit; fruit = fruit->next)
        sum += fruit->weight * count;
    return sign < 0 ? -sum : sum;
}

__attribute__((noinline)) double stall_price(double per_kilo, unsigned long grams) {
    return per_kilo * grams / 1000;
}

static inline __attribute__((always_inline)) int stall_ring(int times) {
    __asm__ volatile("880: nop\n" MARK("880b", "ring", "stall_counter", "-4@%0 -4@stall_open(%%rip)")
                     ::"r"(times));
    return times + stall_open;
}

int main(void) {
    static fruit_t pear = {"pear", 150, 0, 2, RIPE, 0, "pear", {40}};
    static fruit_t plum = {"plum", 20, 1, 3, GREEN, &pear, "plum", {5}};
    int sum = stall_ring(1) + stall_weigh(&plum, 2, 1);
    __asm__ volatile("nop\n"
                     "881: nop\n" MARK("881b", "ring", "stall_counter", "-4@$2 -4@stall_open(%%rip)")
                     "882: nop\n" MARK("882b", "sell", "0", "8@%%rbx 8f@%%xmm0 1@(%%rsp,%%rax,8)") ::);
    return sum + (int)stall_price(2.5, sum);
}
