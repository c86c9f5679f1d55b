/*
 * blocks.c: _Block_copy and _Block_release in front of libBlocksRuntime's, so that what a client copies and
 * never releases, or releases twice, is seen. The isa symbols are the runtime's own.
 */
#include "blocks.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "report.h"

#define NEEDS_FREE (1 << 24)
#define IS_GLOBAL (1 << 28)
#define REFERENCES 0xffff
/* Heap blocks known at one time; a program has a handful. A power of two. */
#define SLOTS 65536u

void *_Block_copy(const void *block);
void _Block_release(const void *block);
void _Block_object_dispose(const void *object, const int flags);
extern void *_NSConcreteStackBlock[], *_NSConcreteGlobalBlock[], *_NSConcreteMallocBlock[];

struct slot {
    const void *block;
    long client, library; /* references of each; blocks that captured it hold more, which are not counted */
    bool dead;            /* freed, and not yet handed out again by malloc */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[SLOTS];
static void *(*runtime_copy)(const void *);
static void (*runtime_release)(const void *);
static void (*runtime_dispose)(const void *, int);
/* In a dispose helper: what is released there was captured, not copied by the client. */
static __thread int disposing;

static __attribute__((constructor(101))) void find_runtime(void) {
    void *runtime = dlopen("libBlocksRuntime.so.0", RTLD_NOW | RTLD_LOCAL);
    if (runtime) {
        runtime_copy = (void *(*)(const void *))dlsym(runtime, "_Block_copy");
        runtime_release = (void (*)(const void *))dlsym(runtime, "_Block_release");
        runtime_dispose = (void (*)(const void *, int))dlsym(runtime, "_Block_object_dispose");
        dlclose(runtime); /* stays: this library is linked with it */
    }
    if (!runtime_copy || !runtime_release || !runtime_dispose)
        sim_fatal("libBlocksRuntime is not there");
}

/* The slot of a block, or the empty one where it belongs. The lock is held. */
static struct slot *find(const void *block) {
    unsigned at = (unsigned)((uintptr_t)block >> 4) * 2654435761u % SLOTS;
    for (unsigned tried = 0; tried < SLOTS; tried++, at = (at + 1) % SLOTS)
        if (slots[at].block == block || !slots[at].block)
            return &slots[at];
    sim_fatal("more than %u blocks", SLOTS);
}

static void *copy(const void *block, int by_client, const char *where) {
    const struct sim_block *literal = block;
    if (!literal)
        sim_fatal("%s: NULL where a block belongs", where);
    if (literal->isa != _NSConcreteStackBlock && literal->isa != _NSConcreteGlobalBlock &&
        literal->isa != _NSConcreteMallocBlock)
        sim_fatal("%s: %p is no block: its isa is none of the runtime's", where, block);
    if (!literal->invoke || !literal->descriptor)
        sim_fatal("%s: the block %p has no %s", where, block, literal->invoke ? "descriptor" : "invoke function");
    if (literal->flags & IS_GLOBAL)
        return (void *)block;
    if (literal->flags & NEEDS_FREE) {
        pthread_mutex_lock(&lock);
        struct slot *known = find(block);
        if (known->dead)
            sim_fatal("%s: the block %p was released for the last time before this call", where, block);
        pthread_mutex_unlock(&lock);
    }
    struct sim_block *heap = runtime_copy(block);
    if (!heap)
        sim_fatal("%s: out of memory", where);
    pthread_mutex_lock(&lock);
    struct slot *slot = find(heap);
    slot->block = heap;
    slot->dead = false;
    if (by_client)
        slot->client++;
    else
        slot->library++;
    pthread_mutex_unlock(&lock);
    return heap;
}

static void release(const void *block, int by_client) {
    const struct sim_block *literal = block;
    pthread_mutex_lock(&lock);
    struct slot *slot = find(block);
    if (slot->block) { /* else the runtime made it inside another block's copy helper */
        long *mine = by_client ? &slot->client : &slot->library;
        if (*mine <= 0)
            sim_fatal("_Block_release: %p was released more often than it was copied", block);
        --*mine;
        slot->dead = (literal->flags & REFERENCES) == 1;
    }
    pthread_mutex_unlock(&lock);
    if (!(literal->flags & IS_GLOBAL))
        runtime_release(block);
}

void *_Block_copy(const void *block) {
    return copy(block, 1, "_Block_copy");
}

void _Block_release(const void *block) {
    if (disposing)
        runtime_release(block);
    else if (block)
        release(block, 1);
}

void _Block_object_dispose(const void *object, const int flags) {
    disposing++;
    runtime_dispose(object, flags);
    disposing--;
}

void *sim_block_keep(const void *block, const char *where) {
    return copy(block, 0, where);
}

void sim_block_drop(void *block) {
    if (block)
        release(block, 0);
}

long sim_blocks_alive(void) {
    long count = 0;
    pthread_mutex_lock(&lock);
    for (unsigned at = 0; at < SLOTS; at++)
        count += slots[at].client > 0;
    pthread_mutex_unlock(&lock);
    return count;
}
