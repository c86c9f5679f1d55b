/*
 * object.h: what every counted object begins with, and the list of those that live.
 *
 * A freed object is kept for a while with its mark changed, so that a second release or a late use is
 * reported with a sentence instead of corrupting memory.
 */
#ifndef SIM_OBJECT_H
#define SIM_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_kind {
    SIM_QUEUE = 1,
    SIM_SEMAPHORE,
    SIM_GROUP,
    SIM_XPC,
    SIM_INTERFACE,
    SIM_CONFIGURATION,
    SIM_NETWORK,
};

struct sim_object {
    uint32_t mark; /* SIM_LIVE or SIM_DEAD; anything else is no object of ours */
    uint32_t kind; /* enum sim_kind */
    atomic_long references;
    void (*destroy)(struct sim_object *object); /* frees what the object holds, not the object */
    struct sim_object *next, *previous;         /* the list of live ones */
    bool ours;                                  /* made by the library for itself: no leak of the client's */
};

#define SIM_LIVE 0x564d4e54u
#define SIM_DEAD 0xdeadbeefu

/* A zeroed object of `size` bytes with one reference. Never NULL. */
void *sim_object_create(size_t size, enum sim_kind kind, void (*destroy)(struct sim_object *));
/* Ends the process with a report unless `object` is a live object of `kind` (0: of any kind). `where` is the call. */
struct sim_object *sim_object_check(const void *object, uint32_t kind, const char *where);
void sim_object_retain(void *object);
void sim_object_release(void *object);
/* Calls `visit` for each live object that is not the library's own. */
void sim_object_each(void (*visit)(struct sim_object *object, void *context), void *context);
/*
 * Exported: how many live when no queue has work left, the library's own included, but for interfaces, whose
 * handles are kept.
 */
long vmnet_sim_objects(void);
/* Exported: bytes that the library keeps of what was given back: handles of interfaces, and freed objects. */
size_t vmnet_sim_kept_bytes(void);
/* What a kind is called in reports. */
const char *sim_kind_name(uint32_t kind);

#endif
