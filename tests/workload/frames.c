/* Stacks that are known, of code without frame pointers (-O2 -fomit-frame-pointer).
 *
 *     rt-frames WORK[=COUNT]...
 *     rt-frames -            works by the lines of standard input, one at a time
 *
 * Every work ends in `rt_leaf`, COUNT times (1 if not given). With a file's name in RT_FRAMES_OUT,
 * rt_leaf writes its backtrace(3) there: a line of addresses, the innermost first. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAR __attribute__((noinline, noclone, noipa))

static FILE *out;
volatile long rt_sink;

FAR void rt_leaf(int n) {
    rt_sink += n;
    if (out) {
        void *list[200];
        int count = backtrace(list, 200);
        for (int i = 0; i < count; i++) {
            fprintf(out, "%lx ", (unsigned long)list[i]);
        }
        fprintf(out, "\n");
        fflush(out);
    }
}

/* A large frame. */
FAR int rt_third(int n) {
    volatile char room[5000];
    room[n] = 1;
    rt_leaf(n);
    return rt_sink + room[n];
}

FAR int rt_second(int n) {
    int result = rt_third(n + 1);
    return result + n;
}

FAR int rt_first(int n) {
    volatile long list[8];
    list[n & 7] = n;
    int result = rt_second(n * 3);
    return result + (int)list[n & 7];
}

static void chain(void) { rt_first(2); }

/* Through the C library and back. */
FAR int rt_compare(const void *a, const void *b) {
    int result = *(const int *)a - *(const int *)b;
    rt_leaf(result);
    return result;
}

FAR void rt_sort(void) {
    int list[2] = {2, 1};
    qsort(list, 2, sizeof *list, rt_compare);
    rt_sink += list[0];
}

/* Through the frame that the kernel makes for a signal. */
FAR void rt_handler(int n) {
    rt_leaf(n);
    rt_sink++;
}

FAR void rt_signal(void) {
    signal(SIGUSR1, rt_handler);
    raise(SIGUSR1);
    rt_sink++;
}

/* The frame's size is known only when it runs: by rbp, also with -fomit-frame-pointer. */
FAR void rt_variable(int n) {
    char *room = __builtin_alloca(n * 16);
    memset(room, 1, n * 16);
    rt_leaf(room[3]);
    rt_sink += room[2];
}

static void variable(void) { rt_variable(5 + (int)(rt_sink & 7)); }

/* The stack is aligned first, so that the way back is kept in a register (of DWARF, an
 * expression). */
FAR void rt_aligned(int n) {
    volatile char room[64 * 4] __attribute__((aligned(128)));
    char *more = __builtin_alloca(n * 16);
    memset(more, 1, n * 16);
    room[n] = 1;
    rt_leaf(more[1] + room[n]);
    rt_sink += room[n];
}

static void aligned(void) { rt_aligned(3 + (int)(rt_sink & 7)); }

/* So many frames. */
FAR int rt_deeper(int n) {
    if (n == 0) {
        rt_leaf(n);
        return 1;
    }
    /* Else the compiler makes a loop of it. */
    int (*volatile self)(int) = rt_deeper;
    return self(n - 1) + 2;
}

static void deep(void) { rt_sink += rt_deeper(50); }
static void deepest(void) { rt_sink += rt_deeper(300); }

/* A thread's stack begins elsewhere. */
FAR void *rt_thread(void *unused) {
    rt_first(1);
    rt_sink++;
    return unused;
}

static void thread(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, rt_thread, NULL) == 0) {
        pthread_join(other, NULL);
    }
}

/* Another process with the same code. */
FAR void rt_child(void) {
    rt_first(3);
    rt_sink++;
}

static void child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        rt_child();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

/* A page fault for each of 16 pages, all by one instruction. */
FAR void rt_touch(volatile char *pages) {
    for (int i = 0; i < 16; i++) {
        pages[i * 4096] = 1;
    }
}

static void touch(void) {
    char *pages =
        mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED) {
        rt_touch(pages);
        munmap(pages, 16 * 4096);
    }
}

/* A library that comes later: the one in RT_FRAMES_LIBRARY calls back. */
static void library(void) {
    static void (*call)(void (*)(int), int);
    if (!call) {
        const char *path = getenv("RT_FRAMES_LIBRARY");
        void *opened = path ? dlopen(path, RTLD_NOW) : NULL;
        call = opened ? (void (*)(void (*)(int), int))dlsym(opened, "rt_call_back") : NULL;
    }
    if (call) {
        call(rt_leaf, 1);
    } else {
        fprintf(stderr, "rt-frames: no library\n");
    }
}

static const struct {
    const char *name;
    void (*work)(void);
} works[] = {
    {"chain", chain},     {"sort", rt_sort},    {"signal", rt_signal}, {"variable", variable},
    {"aligned", aligned}, {"deep", deep},       {"deepest", deepest},  {"thread", thread},
    {"child", child},     {"library", library}, {"touch", touch},
};

static int perform(const char *text) {
    size_t length = strcspn(text, "=\n");
    long count = text[length] == '=' ? atol(text + length + 1) : 1;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        if (strlen(works[i].name) == length && strncmp(works[i].name, text, length) == 0) {
            while (count-- > 0) {
                works[i].work();
            }
            return 0;
        }
    }
    fprintf(stderr, "rt-frames: no work `%s`\n", text);
    return 1;
}

int main(int argc, char **argv) {
    const char *path = getenv("RT_FRAMES_OUT");
    if (path) {
        /* It loads a library when it is first called. */
        void *one[1];
        backtrace(one, 1);
        out = fopen(path, "a");
    }
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-") != 0) {
            failed |= perform(argv[i]);
            continue;
        }
        char line[256];
        while (fgets(line, sizeof line, stdin)) {
            failed |= perform(line);
        }
    }
    return failed;
}
