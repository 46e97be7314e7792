// Work in units: a line on standard input says how many turns, a line on standard output what they took: processor time of this
// process and of its ended children, and time on the clock, both in ns. Include-only.
#ifndef UNITS_H
#define UNITS_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t processor_ns(void)
{
    struct rusage children;
    getrusage(RUSAGE_CHILDREN, &children);
    uint64_t microseconds = (uint64_t)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) +
                            (uint64_t)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000u;
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + microseconds * 1000u;
}

static uint64_t processor_before, clock_before;

// The turns of the next unit, whose time begins now; ends the program when there is no other.
static long begin_unit(void)
{
    char line[32];
    if (!fgets(line, sizeof line, stdin))
        exit(0);
    processor_before = processor_ns();
    clock_before = clock_ns(CLOCK_MONOTONIC);
    return atol(line);
}

static void end_unit(void)
{
    uint64_t clock = clock_ns(CLOCK_MONOTONIC) - clock_before, processor = processor_ns() - processor_before;
    printf("%llu %llu\n", (unsigned long long)processor, (unsigned long long)clock);
    fflush(stdout);
}
#endif
