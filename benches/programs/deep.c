// A program of known depth: `deep DEPTH DISTINCT KIB [units]` has DEPTH frames of its functions f0, f1, … (DISTINCT of them in
// turn) below main, each of 48 to 96 bytes, and burns CPU in the leaf until it is killed, or in units (see units.h). KIB > 0: the
// leaf walks at random over that much memory, as a real program does, and so pushes a profiler's data out of the caches between
// two samples.
#include "units.h"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

static long distinct;
static uint64_t lines;
static volatile uint64_t *memory;
static volatile long sink;

static int in_units;

__attribute__((noinline)) static long leaf(long x)
{
    uint64_t random = 88172645463325252u + (uint64_t)x;
    for (;;) {
        // Without units one without end.
        for (long left = in_units ? begin_unit() : -1; left != 0; left--) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if (lines)
                memory[(random % lines) * 8] += random;
            else
                sink = (long)random;
        }
        end_unit();
    }
    return (long)random;
}

typedef long function(long depth, long x);
static function *const next[64];

#define FUNCTION(n, room_bytes)                                                                                                   \
    __attribute__((noinline)) static long f##n(long depth, long x)                                                                \
    {                                                                                                                             \
        volatile char room[room_bytes];                                                                                           \
        room[0] = (char)x;                                                                                                        \
        long below = depth <= 1 ? leaf(x) : next[(n + 1) % distinct](depth - 1, x + n);                                           \
        return below + room[0];                                                                                                   \
    }
#define EIGHT(a, b, c, d, e, f, g, h)                                                                                             \
    FUNCTION(a, 16) FUNCTION(b, 24) FUNCTION(c, 32) FUNCTION(d, 40) FUNCTION(e, 48) FUNCTION(f, 56) FUNCTION(g, 24) FUNCTION(h, 40)

EIGHT(0, 1, 2, 3, 4, 5, 6, 7)
EIGHT(8, 9, 10, 11, 12, 13, 14, 15)
EIGHT(16, 17, 18, 19, 20, 21, 22, 23)
EIGHT(24, 25, 26, 27, 28, 29, 30, 31)
EIGHT(32, 33, 34, 35, 36, 37, 38, 39)
EIGHT(40, 41, 42, 43, 44, 45, 46, 47)
EIGHT(48, 49, 50, 51, 52, 53, 54, 55)
EIGHT(56, 57, 58, 59, 60, 61, 62, 63)

static function *const next[64] = {
    f0,  f1,  f2,  f3,  f4,  f5,  f6,  f7,  f8,  f9,  f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21,
    f22, f23, f24, f25, f26, f27, f28, f29, f30, f31, f32, f33, f34, f35, f36, f37, f38, f39, f40, f41, f42, f43,
    f44, f45, f46, f47, f48, f49, f50, f51, f52, f53, f54, f55, f56, f57, f58, f59, f60, f61, f62, f63,
};

int main(int count, char **words)
{
    if (count != 4 && count != 5) {
        fprintf(stderr, "usage: %s DEPTH DISTINCT KIB [units]\n", words[0]);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    in_units = count == 5;
    distinct = atol(words[2]);
    lines = (uint64_t)atol(words[3]) * 1024 / 64;
    memory = calloc(lines + 1, 64);
    if (distinct < 1 || distinct > 64 || !memory)
        return 2;
    for (uint64_t line = 0; line < lines; line++)
        memory[line * 8] = line;
    puts("ready");
    fflush(stdout);
    return (int)next[0](atol(words[1]), 1);
}
