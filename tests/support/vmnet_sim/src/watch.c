/*
 * watch.c: events. One thread of the process watches the TAPs of every interface that has a callback.
 *
 * An interface is watched until data is there; then its callback is put on its queue, once, and the watch
 * stays off until it is known that the client has had its turn: when a read came up short, when the callback
 * returns after it has read (what it left brings the next event), or, for a client that reads elsewhere and
 * stops while there is more, a moment after a read that gave all it was asked for.
 *
 * How many packets wait is not known, and the framework does not promise it: the estimate grows while clients
 * read all they are told of, and else is what they found last time. It is wrong in both directions.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "blocks.h"
#include "dispatch_internal.h"
#include "faults.h"
#include "interface.h"
#include "report.h"

#define MOST_INTERFACES 64
/* Long enough for a client that goes on reading, short enough for one that has stopped. */
#define LATE_NANOSECONDS 2000000

static struct {
    pthread_mutex_t lock;
    bool ready, ending;
    int epoll, timer;
    pthread_t thread;
    struct vmnet_interface *watched[MOST_INTERFACES];
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct event {
    struct vmnet_interface *interface;
    void *callback;
    dispatch_queue_t queue;
    uint32_t estimate;
};

/* What the callback that runs in this thread has read so far. */
static __thread struct {
    struct vmnet_interface *interface;
    bool read, came_up_short;
} turn;

static void arm(struct vmnet_interface *interface) {
    if (atomic_exchange(&interface->armed, true))
        return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = interface};
    epoll_ctl(watch.epoll, EPOLL_CTL_MOD, interface->tap, &event);
}

static void arm_if_open(struct vmnet_interface *interface) {
    pthread_rwlock_rdlock(&interface->tap_lock);
    if (interface->tap >= 0)
        arm(interface);
    pthread_rwlock_unlock(&interface->tap_lock);
}

static void deliver(void *pointer) {
    struct event *event = pointer;
    struct vmnet_interface *interface = event->interface;
    int state = atomic_load(&interface->state);
    if (state == SIM_RUNNING || state == SIM_STOPPING) {
        xpc_object_t facts = xpc_dictionary_create_empty();
        ((struct sim_object *)facts)->ours = true;
        xpc_dictionary_set_uint64(facts, vmnet_estimated_packets_available_key, event->estimate);
        turn.interface = interface;
        turn.read = turn.came_up_short = false;
        typedef void (*invoke)(void *, interface_event_t, xpc_object_t);
        SIM_INVOKE(event->callback, invoke)(event->callback, VMNET_INTERFACE_PACKETS_AVAILABLE, facts);
        turn.interface = NULL;
        xpc_release(facts);
        if (turn.read && !turn.came_up_short)
            arm_if_open(interface);
    }
    sim_block_drop(event->callback);
    dispatch_release(event->queue);
    free(event);
}

static uint32_t estimate(struct vmnet_interface *interface) {
    if (sim_fault_set(SIM_FAULT_estimate))
        return sim_fault_value(SIM_FAULT_estimate);
    unsigned told = atomic_load(&interface->told), taken = atomic_exchange(&interface->taken, 0);
    unsigned next = taken >= told ? told * 2 : taken;
    unsigned most = (unsigned)interface->packets_per_call;
    next = next < 1 ? 1 : next > most ? most : next;
    atomic_store(&interface->told, next);
    return next;
}

static void fire(struct vmnet_interface *interface, uint32_t packets) {
    struct event *event = calloc(1, sizeof *event);
    if (!event)
        sim_fatal("out of memory");
    event->interface = interface;
    event->estimate = packets;
    pthread_mutex_lock(&interface->callback_lock);
    if (interface->callback) {
        event->callback = sim_block_keep(interface->callback, "an event");
        event->queue = interface->callback_queue;
        dispatch_retain(event->queue);
    }
    pthread_mutex_unlock(&interface->callback_lock);
    if (event->callback)
        dispatch_async_f(event->queue, event, deliver);
    else
        free(event);
}

static void on_data(struct vmnet_interface *interface) {
    atomic_store(&interface->armed, false);
    if (atomic_load(&interface->state) != SIM_RUNNING)
        return;
    fire(interface, estimate(interface));
    unsigned number = atomic_fetch_add(&interface->events, 1) + 1;
    if (sim_fault_set(SIM_FAULT_spurious_events) && number % sim_fault_value(SIM_FAULT_spurious_events) == 0)
        fire(interface, 1);
}

static void on_timer(void) {
    uint64_t expirations;
    ssize_t done = read(watch.timer, &expirations, sizeof expirations);
    (void)done;
    pthread_mutex_lock(&watch.lock);
    for (int i = 0; i < MOST_INTERFACES; i++) {
        struct vmnet_interface *interface = watch.watched[i];
        if (interface && atomic_exchange(&interface->full, false) && interface->callback)
            arm_if_open(interface);
    }
    pthread_mutex_unlock(&watch.lock);
}

static void *run(void *unused) {
    (void)unused;
    for (;;) {
        struct epoll_event events[16];
        int count = epoll_wait(watch.epoll, events, 16, -1);
        pthread_mutex_lock(&watch.lock);
        bool ending = watch.ending;
        pthread_mutex_unlock(&watch.lock);
        if (ending || (count < 0 && errno != EINTR))
            return NULL;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                on_data(events[i].data.ptr);
            else
                on_timer();
        }
    }
}

static void start_timer(long nanoseconds) {
    struct itimerspec when = {.it_value.tv_nsec = nanoseconds};
    timerfd_settime(watch.timer, 0, &when, NULL);
}

/* The watch's lock is held. */
static void make_ready(void) {
    if (watch.ready)
        return;
    watch.epoll = epoll_create1(EPOLL_CLOEXEC);
    watch.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    if (watch.epoll < 0 || watch.timer < 0 || epoll_ctl(watch.epoll, EPOLL_CTL_ADD, watch.timer, &event) < 0 ||
        sim_thread_create(&watch.thread, run) != 0)
        sim_fatal("cannot watch interfaces: %s", strerror(errno));
    watch.ready = true;
}

void sim_watch_begin(struct vmnet_interface *interface) {
    pthread_mutex_lock(&watch.lock);
    make_ready();
    int place = -1;
    for (int i = MOST_INTERFACES - 1; i >= 0; i--) {
        if (watch.watched[i] == interface) {
            place = -1;
            break;
        }
        if (!watch.watched[i])
            place = i;
    }
    if (place >= 0) {
        watch.watched[place] = interface;
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = interface};
        atomic_store(&interface->armed, true);
        pthread_rwlock_rdlock(&interface->tap_lock);
        if (interface->tap >= 0)
            epoll_ctl(watch.epoll, EPOLL_CTL_ADD, interface->tap, &event);
        pthread_rwlock_unlock(&interface->tap_lock);
    }
    pthread_mutex_unlock(&watch.lock);
}

void sim_watch_end(struct vmnet_interface *interface) {
    pthread_mutex_lock(&watch.lock);
    for (int i = 0; i < MOST_INTERFACES; i++) {
        if (watch.watched[i] != interface)
            continue;
        watch.watched[i] = NULL;
        pthread_rwlock_rdlock(&interface->tap_lock);
        if (interface->tap >= 0)
            epoll_ctl(watch.epoll, EPOLL_CTL_DEL, interface->tap, NULL);
        pthread_rwlock_unlock(&interface->tap_lock);
    }
    pthread_mutex_unlock(&watch.lock);
}

void sim_watch_read(struct vmnet_interface *interface, int wanted, int got) {
    atomic_fetch_add(&interface->taken, (unsigned)got);
    bool came_up_short = got < wanted;
    if (turn.interface == interface) {
        turn.read = true;
        turn.came_up_short = came_up_short;
    }
    if (!interface->callback)
        return;
    if (came_up_short) {
        atomic_store(&interface->full, false);
        arm(interface);
    } else if (turn.interface != interface && !atomic_exchange(&interface->full, true)) {
        start_timer(LATE_NANOSECONDS);
    }
}

/* Before the pool of threads ends: nothing new is put on queues. */
static __attribute__((destructor(105))) void end_watch(void) {
    pthread_mutex_lock(&watch.lock);
    watch.ending = true;
    bool ready = watch.ready;
    pthread_mutex_unlock(&watch.lock);
    if (!ready)
        return;
    start_timer(1);
    pthread_join(watch.thread, NULL);
    close(watch.epoll);
    close(watch.timer);
}
