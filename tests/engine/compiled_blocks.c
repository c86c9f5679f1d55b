/* Blocks as a compiler makes them (clang -fblocks), for comparison with those that the engine makes by hand. */

#include <Block.h>
#include <pthread.h>
#include <stdint.h>

typedef void (^with_object)(uint32_t status, void *object);
typedef void (^status_only)(uint32_t status);

/* A block that captures another one, so that it has copy and dispose helpers; on the heap. */
void *compiled_with_object(void)
{
    int captured = 0;
    status_only inner = Block_copy(^(uint32_t status) { (void)status; (void)captured; });
    void *made = Block_copy(^(uint32_t status, void *object) { inner(status); (void)object; });
    Block_release(inner);
    return made;
}

void *compiled_status_only(void)
{
    int captured = 0;
    status_only inner = Block_copy(^(uint32_t status) { (void)status; (void)captured; });
    void *made = Block_copy(^(uint32_t status) { inner(status); });
    Block_release(inner);
    return made;
}

void forget(void *block)
{
    Block_release(block);
}

struct call {
    void *block;
    uint32_t status;
    void *object;
};

static void *run_with_object(void *argument)
{
    struct call *call = argument;
    ((with_object)call->block)(call->status, call->object);
    Block_release(call->block);
    return 0;
}

static void *run_status_only(void *argument)
{
    struct call *call = argument;
    ((status_only)call->block)(call->status);
    Block_release(call->block);
    return 0;
}

/* Keep a copy, call it on a thread of our own, give it up: what the framework does with a handler. */
int call_with_object(void *block, uint32_t status, void *object)
{
    struct call call = {Block_copy(block), status, object};
    pthread_t thread;
    return pthread_create(&thread, 0, run_with_object, &call) || pthread_join(thread, 0);
}

int call_status_only(void *block, uint32_t status)
{
    struct call call = {Block_copy(block), status, 0};
    pthread_t thread;
    return pthread_create(&thread, 0, run_status_only, &call) || pthread_join(thread, 0);
}
