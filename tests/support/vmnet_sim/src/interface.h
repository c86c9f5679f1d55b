/* interface.h: an interface, as the files that start it, move its frames and watch it share it. */
#ifndef SIM_INTERFACE_H
#define SIM_INTERFACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <vmnet/vmnet.h>

#include "object.h"

enum sim_state {
    SIM_STARTING,
    SIM_RUNNING,
    SIM_STOPPING,
    SIM_STOPPED,
    SIM_FAILED,
};

/* Handles are kept until the process ends, so that a late use is recognised. */
struct vmnet_interface {
    struct sim_object object;
    _Atomic int state;          /* enum sim_state */
    unsigned number;            /* the fabric's */
    unsigned mtu;               /* of the network layer */
    size_t max_packet;          /* the largest frame, with its virtio header if it has one */
    int packets_per_call;
    bool tso, checksum, virtio; /* what the description asked for */
    bool hidden_header;         /* the TAP has a virtio header that the client does not see */
    struct vmnet_network *network; /* of a start on a network: retained until stopped */
    bool released;              /* CFRelease was called for it */
    uint8_t id[16];

    pthread_rwlock_t tap_lock;  /* taken to write while the TAP is closed */
    int tap;

    /* Events (watch.c). */
    pthread_mutex_t callback_lock;
    void *callback;             /* NULL: none is wanted */
    dispatch_queue_t callback_queue;
    atomic_bool armed;          /* the watcher will see data */
    atomic_bool full;           /* a read outside a callback gave all it was asked for */
    atomic_uint told, taken;    /* packets of the last estimate; packets read since */
    atomic_uint events;
};

/* The handle when it may be used, else NULL and the status to return. Reports a use after stop. */
struct vmnet_interface *sim_interface_running(interface_ref interface, const char *where, vmnet_return_t *status);
/* Whether a program that ends now forgot to stop it. */
bool sim_interface_needs_stop(const struct vmnet_interface *interface);

/* A start, of either kind: description checked, request made, the answer delivered on the queue. */
interface_ref sim_interface_start(struct vmnet_network *network, xpc_object_t description, dispatch_queue_t queue,
                                  const void *handler, const char *where);

/* watch.c */
void sim_watch_begin(struct vmnet_interface *interface);
void sim_watch_end(struct vmnet_interface *interface);
/* A read gave `got` of `wanted` packets. */
void sim_watch_read(struct vmnet_interface *interface, int wanted, int got);

/* checks.c: the arguments of a read or write; VMNET_SUCCESS when they are in order. */
vmnet_return_t sim_check_packets(const struct vmnet_interface *interface, const struct vmpktdesc *packets,
                                 const int *count, bool writing);

/* offload.c: one packet through a TAP with a virtio header; results as those of read(2) and write(2). */
ssize_t sim_offload_read(const struct vmnet_interface *interface, void *frame, size_t room);
ssize_t sim_offload_write(const struct vmnet_interface *interface, const void *frame, size_t length);

/* description.c: the request that starts what the dictionary describes; fills in the interface's features. */
struct sim_message;
vmnet_return_t sim_description_read(struct vmnet_interface *interface, xpc_object_t description,
                                    struct sim_message *message, bool with_network);

#endif
