// forks: in each unit, as many times as it is told, one after the other: fork, exec of itself, exit, wait.
#include "units.h"
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count == 2 && !strcmp(words[1], "--child"))
        return 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    puts("ready");
    fflush(stdout);
    for (;;) {
        for (long left = begin_unit(); left > 0; left--) {
            pid_t child = fork();
            if (child == 0) {
                execl("/proc/self/exe", words[0], "--child", (char *)NULL);
                _exit(127);
            }
            int status = 1;
            if (child < 0 || waitpid(child, &status, 0) < 0 || status)
                return 1;
        }
        end_unit();
    }
}
