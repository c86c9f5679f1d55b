/* dispatch_sync.c: time, semaphores, groups, once, and reference counts of dispatch's objects. */
#include <dispatch/dispatch.h>
#include <errno.h>

#include "dispatch_internal.h"
#include "report.h"

/* -- Time. -- */

static uint64_t now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return (uint64_t)moment.tv_sec * NSEC_PER_SEC + (uint64_t)moment.tv_nsec;
}

dispatch_time_t dispatch_time(dispatch_time_t when, int64_t delta_ns) {
    if (when == DISPATCH_TIME_FOREVER)
        return when;
    uint64_t base = when == DISPATCH_TIME_NOW ? now() : when;
    if (delta_ns >= 0)
        return base > DISPATCH_TIME_FOREVER - (uint64_t)delta_ns ? DISPATCH_TIME_FOREVER : base + (uint64_t)delta_ns;
    return base > (uint64_t)-delta_ns ? base - (uint64_t)-delta_ns : 1;
}

struct timespec sim_deadline(dispatch_time_t when) {
    uint64_t moment = when == DISPATCH_TIME_NOW ? now() : when;
    return (struct timespec){(time_t)(moment / NSEC_PER_SEC), (long)(moment % NSEC_PER_SEC)};
}

/* Wait once; false when the time is over. The lock is held. */
static bool wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, dispatch_time_t timeout) {
    if (timeout == DISPATCH_TIME_FOREVER) {
        pthread_cond_wait(condition, lock);
        return true;
    }
    struct timespec deadline = sim_deadline(timeout);
    return pthread_cond_timedwait(condition, lock, &deadline) != ETIMEDOUT;
}

/* -- Semaphores. -- */

struct dispatch_semaphore_s {
    struct sim_object object;
    pthread_mutex_t lock;
    pthread_cond_t raised;
    intptr_t value, made_with;
};

static void destroy_semaphore(struct sim_object *object) {
    dispatch_semaphore_t semaphore = (dispatch_semaphore_t)object;
    if (semaphore->value < semaphore->made_with)
        sim_fatal("dispatch_release: the semaphore is at %ld, below the %ld it was made with", (long)semaphore->value,
                  (long)semaphore->made_with);
    pthread_mutex_destroy(&semaphore->lock);
    pthread_cond_destroy(&semaphore->raised);
}

dispatch_semaphore_t dispatch_semaphore_create(intptr_t value) {
    if (value < 0)
        return NULL;
    dispatch_semaphore_t semaphore = sim_object_create(sizeof *semaphore, SIM_SEMAPHORE, destroy_semaphore);
    pthread_mutex_init(&semaphore->lock, NULL);
    sim_condition_init(&semaphore->raised);
    semaphore->value = semaphore->made_with = value;
    return semaphore;
}

intptr_t dispatch_semaphore_wait(dispatch_semaphore_t semaphore, dispatch_time_t timeout) {
    sim_object_check(semaphore, SIM_SEMAPHORE, "dispatch_semaphore_wait");
    pthread_mutex_lock(&semaphore->lock);
    bool in_time = timeout != DISPATCH_TIME_NOW;
    while (semaphore->value <= 0 && in_time)
        in_time = wait_until(&semaphore->raised, &semaphore->lock, timeout);
    bool taken = semaphore->value > 0;
    if (taken)
        semaphore->value--;
    pthread_mutex_unlock(&semaphore->lock);
    return taken ? 0 : 1;
}

intptr_t dispatch_semaphore_signal(dispatch_semaphore_t semaphore) {
    sim_object_check(semaphore, SIM_SEMAPHORE, "dispatch_semaphore_signal");
    /* A waiter may release the semaphore as soon as it wakes. */
    sim_object_retain(semaphore);
    pthread_mutex_lock(&semaphore->lock);
    semaphore->value++;
    pthread_cond_signal(&semaphore->raised);
    pthread_mutex_unlock(&semaphore->lock);
    sim_object_release(semaphore);
    return 0;
}

/* -- Groups. -- */

struct dispatch_group_s {
    struct sim_object object;
    pthread_mutex_t lock;
    pthread_cond_t empty;
    unsigned long inside;
};

static void destroy_group(struct sim_object *object) {
    dispatch_group_t group = (dispatch_group_t)object;
    if (group->inside)
        sim_fatal("dispatch_release: %lu are still in the group", group->inside);
    pthread_mutex_destroy(&group->lock);
    pthread_cond_destroy(&group->empty);
}

dispatch_group_t dispatch_group_create(void) {
    dispatch_group_t group = sim_object_create(sizeof *group, SIM_GROUP, destroy_group);
    pthread_mutex_init(&group->lock, NULL);
    sim_condition_init(&group->empty);
    return group;
}

void dispatch_group_enter(dispatch_group_t group) {
    sim_object_check(group, SIM_GROUP, "dispatch_group_enter");
    pthread_mutex_lock(&group->lock);
    group->inside++;
    pthread_mutex_unlock(&group->lock);
}

void dispatch_group_leave(dispatch_group_t group) {
    sim_object_check(group, SIM_GROUP, "dispatch_group_leave");
    sim_object_retain(group);
    pthread_mutex_lock(&group->lock);
    if (!group->inside)
        sim_fatal("dispatch_group_leave: nobody is in the group");
    if (--group->inside == 0)
        pthread_cond_broadcast(&group->empty);
    pthread_mutex_unlock(&group->lock);
    sim_object_release(group);
}

intptr_t dispatch_group_wait(dispatch_group_t group, dispatch_time_t timeout) {
    sim_object_check(group, SIM_GROUP, "dispatch_group_wait");
    pthread_mutex_lock(&group->lock);
    bool in_time = timeout != DISPATCH_TIME_NOW;
    while (group->inside && in_time)
        in_time = wait_until(&group->empty, &group->lock, timeout);
    bool empty = group->inside == 0;
    pthread_mutex_unlock(&group->lock);
    return empty ? 0 : 1;
}

/* -- Once: 0 not begun, 1 running, -1 done. -- */

static pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t once_done = PTHREAD_COND_INITIALIZER;

void dispatch_once_f(dispatch_once_t *predicate, void *context, dispatch_function_t function) {
    pthread_mutex_lock(&once_lock);
    while (*predicate == 1)
        pthread_cond_wait(&once_done, &once_lock);
    if (*predicate == 0) {
        *predicate = 1;
        pthread_mutex_unlock(&once_lock);
        function(context);
        pthread_mutex_lock(&once_lock);
        *predicate = -1;
        pthread_cond_broadcast(&once_done);
    }
    pthread_mutex_unlock(&once_lock);
}

/* -- Reference counts. -- */

static struct sim_object *check(dispatch_object_t pointer, const char *where) {
    struct sim_object *object = sim_object_check(pointer, 0, where);
    if (object->kind != SIM_QUEUE && object->kind != SIM_SEMAPHORE && object->kind != SIM_GROUP)
        sim_fatal("%s: %p is %s, which dispatch does not count", where, pointer, sim_kind_name(object->kind));
    return object;
}

static bool is_permanent(const struct sim_object *object) {
    return object->kind == SIM_QUEUE && ((const struct dispatch_queue_s *)object)->permanent;
}

void dispatch_retain(dispatch_object_t pointer) {
    struct sim_object *object = check(pointer, "dispatch_retain");
    if (!is_permanent(object))
        sim_object_retain(object);
}

void dispatch_release(dispatch_object_t pointer) {
    struct sim_object *object = check(pointer, "dispatch_release");
    if (!is_permanent(object))
        sim_object_release(object);
}
