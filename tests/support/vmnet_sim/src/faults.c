/* faults.c: VMNET_SIM_FAULTS, read once when the library is loaded. */
#include "faults.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

static const char *const names[] = {
#define NAME(name) #name,
    SIM_FAULTS(NAME)
#undef NAME
};
static struct {
    bool set;
    uint32_t value;
    atomic_uint turns;
} faults[SIM_FAULT_COUNT];

static void set(const char *text, size_t length) {
    const char *equals = memchr(text, '=', length);
    size_t name_length = equals ? (size_t)(equals - text) : length;
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        if (strlen(names[i]) != name_length || strncmp(names[i], text, name_length) != 0)
            continue;
        faults[i].set = true;
        faults[i].value = 1;
        if (i == SIM_FAULT_estimate && equals && !strncmp(equals, "=low", 4))
            faults[i].value = 1;
        else if (i == SIM_FAULT_estimate && equals && !strncmp(equals, "=high", 5))
            faults[i].value = 100000;
        else if (equals)
            faults[i].value = (uint32_t)strtoul(equals + 1, NULL, 10);
        return;
    }
    sim_fatal("VMNET_SIM_FAULTS: there is no fault \"%.*s\"", (int)name_length, text);
}

static __attribute__((constructor(102))) void read_environment(void) {
    const char *text = getenv("VMNET_SIM_FAULTS");
    while (text && *text) {
        size_t length = strcspn(text, ",");
        if (length)
            set(text, length);
        text += length + (text[length] == ',');
    }
}

bool sim_fault_set(enum sim_fault fault) {
    return faults[fault].set;
}

uint32_t sim_fault_value(enum sim_fault fault) {
    return faults[fault].value;
}

bool sim_fault_turn(enum sim_fault status, int every, int times) {
    if (!faults[status].set)
        return false;
    unsigned turn = atomic_fetch_add(&faults[status].turns, 1) + 1;
    if (every != SIM_NO_FAULT && faults[every].set)
        return turn % faults[every].value == 0;
    if (times != SIM_NO_FAULT && faults[times].set)
        return turn <= faults[times].value;
    return true;
}
