/* personality.c: the version, given by the build (-DSIM_MACOS=…), held against the environment. */
#include "personality.h"

#include <stdlib.h>
#include <unistd.h>

#include "report.h"

static pid_t loaded_in;

int sim_macos(void) {
    return SIM_MACOS;
}

static __attribute__((constructor(103))) void check_environment(void) {
    loaded_in = getpid();
    const char *wanted = getenv("VMNET_SIM_MACOS");
    if (!wanted)
        return;
    char *end;
    long version = strtol(wanted, &end, 10) * 100;
    if (*end == '.')
        version += strtol(end + 1, NULL, 10);
    if (version != SIM_MACOS)
        sim_fatal("VMNET_SIM_MACOS is %s, but this library was built as macOS %d.%d: load the build of that version",
                  wanted, SIM_MACOS / 100, SIM_MACOS % 100);
}

void sim_check_process(const char *where) {
    if (getpid() != loaded_in)
        sim_fatal("%s: called in a child of the process that loaded the framework", where);
}
