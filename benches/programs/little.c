// little MICROSECONDS: for ever, so much processor time, then a rest until a tenth of a second is over. Compiled with another
// VARIANT, its functions are others, so that each variant is an executable with rows of its own.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#ifndef VARIANT
#define VARIANT 0
#endif

static volatile unsigned long spun;
static long nanoseconds;

static long used_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec * 1000000000 + used.tv_nsec;
}

__attribute__((noinline)) static void burn(void)
{
    long until = used_ns() + nanoseconds;
    while (used_ns() < until)
        for (int i = 0; i < 200; i++)
            spun++;
}

#define LEVEL(number, next)                                                                                                       \
    __attribute__((noinline)) static void level_##number(void)                                                                    \
    {                                                                                                                             \
        volatile char room[8 * number + 16 * VARIANT + 8];                                                                        \
        room[0] = number;                                                                                                         \
        next();                                                                                                                   \
        spun += (unsigned long)room[0];                                                                                           \
    }
LEVEL(8, burn)
LEVEL(7, level_8)
LEVEL(6, level_7)
LEVEL(5, level_6)
LEVEL(4, level_5)
LEVEL(3, level_4)
LEVEL(2, level_3)
LEVEL(1, level_2)

int main(int count, char **words)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    nanoseconds = (count > 1 ? atol(words[1]) : 500) * 1000;
    puts("ready");
    fflush(stdout);
    struct timespec rest = {0, 100 * 1000 * 1000 - nanoseconds};
    for (;;) {
        level_1();
        nanosleep(&rest, NULL);
    }
}
