/* xpc_internal.h: XPC objects as the rest of the library sees them. */
#ifndef SIM_XPC_INTERNAL_H
#define SIM_XPC_INTERNAL_H

#include <xpc/xpc.h>

#include "object.h"

struct sim_entry {
    char *key; /* NULL in an array */
    xpc_object_t value;
};

struct sim_xpc {
    struct sim_object object;
    xpc_type_t type;
    unsigned containers; /* how many hold it */
    union {
        bool boolean;
        int64_t signed_number;
        uint64_t number;
        char *string;
        uint8_t uuid[16];
        struct {
            struct sim_entry *entries;
            size_t count, room;
        };
    };
};

/* The object, or the end of the process when it is not one (of `type`, unless that is NULL). */
struct sim_xpc *sim_xpc_check(xpc_object_t object, xpc_type_t type, const char *where);
struct sim_xpc *sim_xpc_create(xpc_type_t type);
/* Whether its only references are those of containers, which are reported themselves. */
bool sim_xpc_is_contained(const struct sim_object *object);
const char *sim_xpc_type_name(const struct sim_object *object);

#endif
