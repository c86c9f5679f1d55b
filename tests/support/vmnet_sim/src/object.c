/* object.c: counted objects: the list of live ones, and the graveyard of freed ones. */
#include "object.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch_internal.h"
#include "report.h"

/* Freed objects that are still recognised: more than a program frees between two mistakes. */
#define GRAVES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_object *live;
static struct sim_object *graves[GRAVES];
static unsigned next_grave;

void *sim_object_create(size_t size, enum sim_kind kind, void (*destroy)(struct sim_object *)) {
    struct sim_object *object = calloc(1, size);
    if (!object)
        sim_fatal("out of memory");
    object->mark = SIM_LIVE;
    object->kind = kind;
    object->destroy = destroy;
    atomic_store(&object->references, 1);
    pthread_mutex_lock(&lock);
    object->next = live;
    if (live)
        live->previous = object;
    live = object;
    pthread_mutex_unlock(&lock);
    return object;
}

struct sim_object *sim_object_check(const void *pointer, uint32_t kind, const char *where) {
    struct sim_object *object = (struct sim_object *)pointer;
    if (!object)
        sim_fatal("%s: NULL where %s belongs", where, kind ? sim_kind_name(kind) : "an object");
    if (object->mark == SIM_DEAD)
        sim_fatal("%s: %p was released for the last time before this call", where, pointer);
    if (object->mark != SIM_LIVE)
        sim_fatal("%s: %p is no object of this library", where, pointer);
    if (kind && object->kind != kind)
        sim_fatal("%s: %p is %s, not %s", where, pointer, sim_kind_name(object->kind), sim_kind_name(kind));
    return object;
}

void sim_object_retain(void *pointer) {
    struct sim_object *object = pointer;
    atomic_fetch_add(&object->references, 1);
}

static void bury(struct sim_object *object) {
    pthread_mutex_lock(&lock);
    if (object->previous)
        object->previous->next = object->next;
    else
        live = object->next;
    if (object->next)
        object->next->previous = object->previous;
    object->mark = SIM_DEAD;
    struct sim_object *oldest = graves[next_grave];
    graves[next_grave] = object;
    next_grave = (next_grave + 1) % GRAVES;
    pthread_mutex_unlock(&lock);
    free(oldest);
}

void sim_object_release(void *pointer) {
    struct sim_object *object = pointer;
    if (atomic_fetch_sub(&object->references, 1) != 1)
        return;
    if (object->destroy)
        object->destroy(object);
    bury(object);
}

void sim_object_each(void (*visit)(struct sim_object *, void *), void *context) {
    pthread_mutex_lock(&lock);
    for (struct sim_object *object = live; object; object = object->next)
        if (!object->ours)
            visit(object, context);
    pthread_mutex_unlock(&lock);
}

long vmnet_sim_objects(void) {
    long count = 0;
    sim_dispatch_settle();
    pthread_mutex_lock(&lock);
    for (struct sim_object *object = live; object; object = object->next)
        count += object->kind != SIM_INTERFACE;
    pthread_mutex_unlock(&lock);
    return count;
}

size_t vmnet_sim_kept_bytes(void) {
    size_t bytes = 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < GRAVES; i++)
        bytes += graves[i] ? malloc_usable_size(graves[i]) : 0;
    for (struct sim_object *object = live; object; object = object->next)
        bytes += object->kind == SIM_INTERFACE ? malloc_usable_size(object) : 0;
    pthread_mutex_unlock(&lock);
    return bytes;
}

const char *sim_kind_name(uint32_t kind) {
    switch (kind) {
    case SIM_QUEUE:
        return "a dispatch queue";
    case SIM_SEMAPHORE:
        return "a dispatch semaphore";
    case SIM_GROUP:
        return "a dispatch group";
    case SIM_XPC:
        return "an XPC object";
    case SIM_INTERFACE:
        return "an interface";
    case SIM_CONFIGURATION:
        return "a network configuration";
    case SIM_NETWORK:
        return "a network";
    default:
        return "an unknown object";
    }
}

/* Runs after the report of leaks (report.c), so that a memory checker sees none of the library's own. */
static __attribute__((destructor(101))) void empty_graves(void) {
    for (unsigned i = 0; i < GRAVES; i++) {
        free(graves[i]);
        graves[i] = NULL;
    }
}
