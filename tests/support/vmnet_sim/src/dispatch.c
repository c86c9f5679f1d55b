/*
 * dispatch.c: queues, served by a pool of threads that grows while every thread is busy.
 *
 * A queue with work that may start now hands the pool one token for each piece; a thread that takes a token
 * runs work of that queue until none may start. A serial queue lets one piece run at a time, a concurrent
 * one any number, but for a barrier, which waits until it is alone.
 */
#include "dispatch_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks.h"
#include "report.h"

/* As many as libdispatch's own limit for threads that block. */
#define MOST_THREADS 512

struct token {
    struct token *next;
    dispatch_queue_t queue;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, quiet;
    struct token *first, *last;
    unsigned tokens, threads, idle;
    bool stopping, ready;
    pthread_t ids[MOST_THREADS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static __thread dispatch_queue_t current_queue;

struct dispatch_queue_attr_s _dispatch_queue_attr_concurrent = {.concurrent = 1};
struct dispatch_queue_s _dispatch_main_q = {
    .object = {.mark = SIM_LIVE, .kind = SIM_QUEUE, .references = 1, .ours = true},
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .suspended = true,
    .permanent = true,
    .label = "com.apple.main-thread",
};
static struct dispatch_queue_s global_queue = {
    .object = {.mark = SIM_LIVE, .kind = SIM_QUEUE, .references = 1, .ours = true},
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .concurrent = true,
    .permanent = true,
    .label = "com.apple.root.default-qos",
};

void sim_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int sim_thread_create(pthread_t *id, void *(*run)(void *)) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(id, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

/* -- What of a queue may run. The queue's lock is held. -- */

static bool may_start(dispatch_queue_t queue) {
    if (!queue->first || queue->barrier_running || queue->suspended)
        return false;
    if (queue->concurrent && !queue->first->barrier)
        return true;
    return queue->running == 0;
}

static struct sim_work *start_next(dispatch_queue_t queue) {
    if (!may_start(queue))
        return NULL;
    struct sim_work *work = queue->first;
    queue->first = work->next;
    if (!queue->first)
        queue->last = NULL;
    queue->running++;
    queue->barrier_running = work->barrier;
    return work;
}

/* -- The pool. -- */

static void run_queue(dispatch_queue_t queue) {
    pthread_mutex_lock(&queue->lock);
    struct sim_work *work;
    while ((work = start_next(queue))) {
        bool barrier = work->barrier;
        pthread_mutex_unlock(&queue->lock);
        current_queue = queue;
        work->function(work->context);
        current_queue = NULL;
        free(work);
        pthread_mutex_lock(&queue->lock);
        queue->running--;
        if (barrier)
            queue->barrier_running = false;
    }
    pthread_mutex_unlock(&queue->lock);
}

static void *serve(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct token *token = pool.first;
        if (token) {
            pool.first = token->next;
            if (!pool.first)
                pool.last = NULL;
            pool.tokens--;
            pthread_mutex_unlock(&pool.lock);
            run_queue(token->queue);
            if (!token->queue->permanent)
                sim_object_release(token->queue);
            free(token);
            pthread_mutex_lock(&pool.lock);
            continue;
        }
        if (pool.stopping)
            break;
        pool.idle++;
        if (pool.idle == pool.threads)
            pthread_cond_broadcast(&pool.quiet);
        pthread_cond_wait(&pool.work, &pool.lock);
        pool.idle--;
    }
    pool.threads--;
    pthread_cond_broadcast(&pool.quiet);
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static void submit(dispatch_queue_t queue) {
    struct token *token = calloc(1, sizeof *token);
    if (!token)
        sim_fatal("out of memory");
    token->queue = queue;
    if (!queue->permanent)
        sim_object_retain(queue);
    pthread_mutex_lock(&pool.lock);
    if (!pool.ready) {
        sim_condition_init(&pool.work);
        sim_condition_init(&pool.quiet);
        pool.ready = true;
    }
    if (pool.last)
        pool.last->next = token;
    else
        pool.first = token;
    pool.last = token;
    pool.tokens++;
    if (pool.idle >= pool.tokens) {
        pthread_cond_signal(&pool.work);
    } else if (pool.threads < MOST_THREADS && !pool.stopping) {
        /* Every idle thread has a token coming to it, or there is none: another thread. */
        if (sim_thread_create(&pool.ids[pool.threads], serve) == 0)
            pool.threads++;
        else if (!pool.threads)
            sim_fatal("cannot make a thread: %s", strerror(errno));
        pthread_cond_signal(&pool.work);
    }
    pthread_mutex_unlock(&pool.lock);
}

static void enqueue(dispatch_queue_t queue, void *context, dispatch_function_t function, bool barrier) {
    struct sim_work *work = calloc(1, sizeof *work);
    if (!work)
        sim_fatal("out of memory");
    work->context = context;
    work->function = function;
    work->barrier = barrier && queue->concurrent && queue != &global_queue;
    pthread_mutex_lock(&queue->lock);
    if (queue->last)
        queue->last->next = work;
    else
        queue->first = work;
    queue->last = work;
    bool start = may_start(queue);
    pthread_mutex_unlock(&queue->lock);
    if (start)
        submit(queue);
}

void sim_dispatch_settle(void) {
    struct timespec deadline = sim_deadline(dispatch_time(DISPATCH_TIME_NOW, 200 * (int64_t)NSEC_PER_MSEC));
    pthread_mutex_lock(&pool.lock);
    while (pool.ready && (pool.first || pool.idle < pool.threads))
        if (pthread_cond_timedwait(&pool.quiet, &pool.lock, &deadline) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&pool.lock);
}

/* Threads that wait are ended and joined; one that is kept busy by the client dies with the process. */
static __attribute__((destructor(103))) void end_pool(void) {
    sim_dispatch_settle();
    pthread_mutex_lock(&pool.lock);
    unsigned threads = pool.threads;
    bool all_idle = pool.idle == threads;
    pool.stopping = true;
    if (pool.ready)
        pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    if (all_idle)
        for (unsigned i = 0; i < threads; i++)
            pthread_join(pool.ids[i], NULL);
}

/* -- The calls. -- */

static dispatch_queue_t check_queue(dispatch_queue_t queue, const char *where) {
    return (dispatch_queue_t)sim_object_check(queue, SIM_QUEUE, where);
}

static void destroy_queue(struct sim_object *object) {
    dispatch_queue_t queue = (dispatch_queue_t)object;
    pthread_mutex_destroy(&queue->lock);
}

dispatch_queue_t dispatch_queue_create(const char *label, dispatch_queue_attr_t attribute) {
    if (attribute && attribute != DISPATCH_QUEUE_CONCURRENT)
        sim_fatal("dispatch_queue_create: %p is no attribute", (void *)attribute);
    dispatch_queue_t queue = sim_object_create(sizeof *queue, SIM_QUEUE, destroy_queue);
    pthread_mutex_init(&queue->lock, NULL);
    queue->concurrent = attribute != NULL;
    snprintf(queue->label, sizeof queue->label, "%s", label ? label : "");
    return queue;
}

dispatch_queue_t dispatch_get_global_queue(intptr_t identifier, uintptr_t flags) {
    (void)identifier;
    return flags ? NULL : &global_queue;
}

const char *dispatch_queue_get_label(dispatch_queue_t queue) {
    return queue ? check_queue(queue, "dispatch_queue_get_label")->label
                 : (current_queue ? current_queue->label : _dispatch_main_q.label);
}

const char *sim_queue_label(const void *queue) {
    return ((const struct dispatch_queue_s *)queue)->label;
}

void dispatch_main(void) {
    pthread_mutex_lock(&_dispatch_main_q.lock);
    _dispatch_main_q.suspended = false;
    pthread_mutex_unlock(&_dispatch_main_q.lock);
    submit(&_dispatch_main_q);
    for (;;)
        pause();
}

void dispatch_async_f(dispatch_queue_t queue, void *context, dispatch_function_t work) {
    enqueue(check_queue(queue, "dispatch_async_f"), context, work, false);
}

void dispatch_barrier_async_f(dispatch_queue_t queue, void *context, dispatch_function_t work) {
    enqueue(check_queue(queue, "dispatch_barrier_async_f"), context, work, true);
}

struct synchronous {
    void *context;
    dispatch_function_t function;
    dispatch_semaphore_t done;
};

static void run_synchronous(void *pointer) {
    struct synchronous *call = pointer;
    call->function(call->context);
    dispatch_semaphore_signal(call->done);
}

static void synchronous(dispatch_queue_t queue, void *context, dispatch_function_t work, bool barrier) {
    if (current_queue == queue && !queue->concurrent)
        sim_fatal("dispatch_sync on the serial queue \"%s\" from work that runs on it: a deadlock", queue->label);
    struct synchronous call = {context, work, dispatch_semaphore_create(0)};
    ((struct sim_object *)call.done)->ours = true;
    enqueue(queue, &call, run_synchronous, barrier);
    dispatch_semaphore_wait(call.done, DISPATCH_TIME_FOREVER);
    dispatch_release(call.done);
}

void dispatch_sync_f(dispatch_queue_t queue, void *context, dispatch_function_t work) {
    synchronous(check_queue(queue, "dispatch_sync_f"), context, work, false);
}

void dispatch_barrier_sync_f(dispatch_queue_t queue, void *context, dispatch_function_t work) {
    synchronous(check_queue(queue, "dispatch_barrier_sync_f"), context, work, true);
}

/* -- Later. -- */

struct later {
    struct timespec moment;
    dispatch_queue_t queue; /* NULL: run it in the thread that waited */
    void *context;
    dispatch_function_t function;
};

static void wait_and_pass_on(void *pointer) {
    struct later *later = pointer;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &later->moment, NULL) == EINTR)
        continue;
    if (later->queue) {
        enqueue(later->queue, later->context, later->function, false);
        dispatch_release(later->queue);
    } else {
        later->function(later->context);
    }
    free(later);
}

static void start_later(dispatch_time_t when, dispatch_queue_t queue, void *context, dispatch_function_t function) {
    struct later *later = calloc(1, sizeof *later);
    if (!later)
        sim_fatal("out of memory");
    *later = (struct later){sim_deadline(when), queue, context, function};
    enqueue(&global_queue, later, wait_and_pass_on, false);
}

void sim_run_later(unsigned milliseconds, void *context, dispatch_function_t function) {
    start_later(dispatch_time(DISPATCH_TIME_NOW, (int64_t)(milliseconds * NSEC_PER_MSEC)), NULL, context, function);
}

void dispatch_after_f(dispatch_time_t when, dispatch_queue_t queue, void *context, dispatch_function_t work) {
    dispatch_retain(check_queue(queue, "dispatch_after_f"));
    start_later(when, queue, context, work);
}

/* -- The forms with a block. -- */

static void run_block(void *block) {
    SIM_INVOKE(block, void (*)(void *))(block);
    sim_block_drop(block);
}

/* Declared here because the header shows them to compilers with blocks only. */
void dispatch_async(dispatch_queue_t queue, void *block);
void dispatch_sync(dispatch_queue_t queue, void *block);
void dispatch_barrier_async(dispatch_queue_t queue, void *block);
void dispatch_barrier_sync(dispatch_queue_t queue, void *block);
void dispatch_after(dispatch_time_t when, dispatch_queue_t queue, void *block);
void dispatch_once(dispatch_once_t *predicate, void *block);

void dispatch_async(dispatch_queue_t queue, void *block) {
    enqueue(check_queue(queue, "dispatch_async"), sim_block_keep(block, "dispatch_async"), run_block, false);
}

void dispatch_sync(dispatch_queue_t queue, void *block) {
    synchronous(check_queue(queue, "dispatch_sync"), sim_block_keep(block, "dispatch_sync"), run_block, false);
}

void dispatch_barrier_async(dispatch_queue_t queue, void *block) {
    enqueue(check_queue(queue, "dispatch_barrier_async"), sim_block_keep(block, "dispatch_barrier_async"), run_block,
            true);
}

void dispatch_barrier_sync(dispatch_queue_t queue, void *block) {
    synchronous(check_queue(queue, "dispatch_barrier_sync"), sim_block_keep(block, "dispatch_barrier_sync"), run_block,
                true);
}

void dispatch_after(dispatch_time_t when, dispatch_queue_t queue, void *block) {
    dispatch_after_f(when, queue, sim_block_keep(block, "dispatch_after"), run_block);
}

static void invoke_block(void *block) {
    SIM_INVOKE(block, void (*)(void *))(block);
}

void dispatch_once(dispatch_once_t *predicate, void *block) {
    dispatch_once_f(predicate, block, invoke_block);
}
