/* keys.h: the keys of vmnet's dictionaries: type, direction, and the macOS that brought each. */
#ifndef SIM_KEYS_H
#define SIM_KEYS_H

#include <stdbool.h>
#include <vmnet/vmnet.h>

struct sim_key {
    const char *const *symbol;
    const struct _xpc_type_s *type;
    bool in_description; /* may be given to a start */
    bool with_network;   /* may be given to a start on a network */
    int since;
};
/* NULL when no key of this macOS has that text. */
const struct sim_key *sim_key_find(const char *text);

#endif
