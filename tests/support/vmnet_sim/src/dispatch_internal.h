/* dispatch_internal.h: queues as the rest of the library sees them. */
#ifndef SIM_DISPATCH_INTERNAL_H
#define SIM_DISPATCH_INTERNAL_H

#include <dispatch/dispatch.h>
#include <pthread.h>
#include <time.h>

#include "object.h"

/* One piece of work that waits in a queue. */
struct sim_work {
    struct sim_work *next;
    void *context;
    dispatch_function_t function;
    bool barrier;
};

struct dispatch_queue_s {
    struct sim_object object;
    pthread_mutex_t lock;
    struct sim_work *first, *last;
    unsigned running;     /* pieces of work that run now */
    bool concurrent;      /* several may run at once */
    bool barrier_running; /* one that must be alone runs now */
    bool suspended;       /* the main queue before dispatch_main */
    bool permanent;       /* global and main queues are not counted */
    char label[64];
};

const char *sim_queue_label(const void *queue);
/* Run `function` on a thread of the pool after `milliseconds`, or at once when the process ends before. */
void sim_run_later(unsigned milliseconds, void *context, dispatch_function_t function);
/* Wait, not for ever, until no queue has work left: before leaks are counted. */
void sim_dispatch_settle(void);
/* A thread of the library's: signals are for the client's own. As pthread_create(3). */
int sim_thread_create(pthread_t *id, void *(*run)(void *));
/* The moment of `when` on CLOCK_MONOTONIC. */
struct timespec sim_deadline(dispatch_time_t when);
/* A condition variable that counts on CLOCK_MONOTONIC. */
void sim_condition_init(pthread_cond_t *condition);

#endif
