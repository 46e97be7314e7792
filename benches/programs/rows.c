// rows: the program around rows.S. It burns CPU at the end of: main, through_rows, burn.
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

extern const unsigned long rows_mark;
extern void through_rows(void (*)(void));
static volatile unsigned long spun;

__attribute__((noinline)) static void burn(void)
{
    for (;;)
        spun++;
}

int main(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    spun = rows_mark;
    through_rows(burn);
    return 0;
}
