/*
 * interface.c: starting and stopping. Both return at once; the work is done on threads of the library's
 * own, and the completion handler runs on the caller's.
 */
#include "interface.h"

#include <CoreFoundation/CoreFoundation.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks.h"
#include "dispatch_internal.h"
#include "fabric_client.h"
#include "faults.h"
#include "network.h"
#include "personality.h"
#include "report.h"

#define ETHERNET_HEADER 14
#define VIRTIO_HEADER 12
/* What interfaces with TSO report. */
#define TSO_PACKET 65550

/* A start or stop on its way. */
struct change {
    struct vmnet_interface *interface;
    dispatch_queue_t queue; /* the caller's */
    void *handler;
    vmnet_return_t status;
    xpc_object_t facts; /* what a start reports; NULL when it failed */
    struct sim_message message;
};

static struct change *make_change(struct vmnet_interface *interface, dispatch_queue_t queue, const void *handler,
                                  const char *where) {
    struct change *change = calloc(1, sizeof *change);
    if (!change)
        sim_fatal("out of memory");
    change->interface = interface;
    change->queue = queue;
    dispatch_retain(queue);
    change->handler = sim_block_keep(handler, where);
    change->status = VMNET_SUCCESS;
    return change;
}

static void end_change(struct change *change) {
    sim_block_drop(change->handler);
    dispatch_release(change->queue);
    if (change->facts)
        xpc_release(change->facts);
    free(change);
}

static void pass_on(unsigned delay, struct change *change, dispatch_function_t work) {
    if (delay)
        sim_run_later(delay, change, work);
    else
        dispatch_async_f(dispatch_get_global_queue(0, 0), change, work);
}

/* -- Start. -- */

static void deliver_start(void *pointer) {
    struct change *start = pointer;
    typedef void (*invoke)(void *, vmnet_return_t, xpc_object_t);
    SIM_INVOKE(start->handler, invoke)(start->handler, start->status, start->facts);
    end_change(start);
}

static void copy_string(xpc_object_t facts, const char *key, const struct sim_message *answer, const char *name) {
    char text[64];
    if (sim_message_get(answer, name, text, sizeof text))
        xpc_dictionary_set_string(facts, key, text);
}

/* What the interface reports: per mode, as the fabric answers only what a mode has. */
static xpc_object_t describe(const struct vmnet_interface *interface, const struct sim_message *answer) {
    xpc_object_t facts = xpc_dictionary_create_empty();
    ((struct sim_object *)facts)->ours = true;
    xpc_dictionary_set_uuid(facts, vmnet_interface_id_key, interface->id);
    xpc_dictionary_set_uint64(facts, vmnet_mtu_key, interface->mtu);
    xpc_dictionary_set_uint64(facts, vmnet_max_packet_size_key, interface->max_packet);
    if (sim_macos() >= 1500) {
        xpc_dictionary_set_uint64(facts, vmnet_read_max_packets_key, (uint64_t)interface->packets_per_call);
        xpc_dictionary_set_uint64(facts, vmnet_write_max_packets_key, (uint64_t)interface->packets_per_call);
    }
    copy_string(facts, vmnet_mac_address_key, answer, "mac_address");
    copy_string(facts, vmnet_start_address_key, answer, "start_address");
    copy_string(facts, vmnet_end_address_key, answer, "end_address");
    copy_string(facts, vmnet_subnet_mask_key, answer, "subnet_mask");
    copy_string(facts, vmnet_nat66_prefix_key, answer, "nat66_prefix");
    return facts;
}

static void take_answer(struct change *start) {
    struct vmnet_interface *interface = start->interface;
    const struct sim_message *answer = &start->message;
    interface->number = (unsigned)sim_message_get_number(answer, "interface");
    interface->mtu = (unsigned)sim_message_get_number(answer, "mtu");
    interface->max_packet = interface->tso ? TSO_PACKET : interface->mtu + ETHERNET_HEADER;
    if (interface->virtio)
        interface->max_packet += VIRTIO_HEADER;
    sim_message_get_uuid(answer, "interface_id", interface->id);
    interface->tap = answer->fd;
    start->facts = describe(interface, answer);
}

static void do_start(void *pointer) {
    struct change *start = pointer;
    struct vmnet_interface *interface = start->interface;
    if (sim_fault_set(SIM_FAULT_start_lost)) {
        end_change(start);
        return;
    }
    if (start->status == VMNET_SUCCESS &&
        sim_fault_turn(SIM_FAULT_start_status, SIM_NO_FAULT, SIM_FAULT_start_fail_times))
        start->status = sim_fault_value(SIM_FAULT_start_status);
    if (start->status == VMNET_SUCCESS && geteuid() != 0 && sim_macos() < 2600)
        start->status = VMNET_FAILURE;
    if (start->status == VMNET_SUCCESS && geteuid() != 0 && sim_fault_set(SIM_FAULT_not_entitled))
        start->status = VMNET_NOT_AUTHORIZED;
    if (start->status == VMNET_SUCCESS)
        start->status = sim_fabric_ask(&start->message);
    if (start->status == VMNET_SUCCESS)
        take_answer(start);
    else if (interface->network)
        CFRelease(interface->network);
    atomic_store(&interface->state, start->status == VMNET_SUCCESS ? SIM_RUNNING : SIM_FAILED);
    dispatch_async_f(start->queue, start, deliver_start);
}

interface_ref sim_interface_start(struct vmnet_network *network, xpc_object_t description, dispatch_queue_t queue,
                                  const void *handler, const char *where) {
    sim_check_process(where);
    if (!queue || !handler) {
        sim_violation("%s: NULL where a %s belongs", where, queue ? "handler" : "queue");
        return NULL;
    }
    if (sim_fault_set(SIM_FAULT_start_null))
        return NULL;
    struct vmnet_interface *interface = sim_object_create(sizeof *interface, SIM_INTERFACE, NULL);
    pthread_rwlock_init(&interface->tap_lock, NULL);
    pthread_mutex_init(&interface->callback_lock, NULL);
    interface->tap = -1;
    interface->packets_per_call = sim_macos() >= 1500 ? SIM_PACKETS_15 : SIM_PACKETS_OLD;
    struct change *start = make_change(interface, queue, handler, where);
    start->status = sim_description_read(interface, description, &start->message, network != NULL);
    if (network) {
        interface->network = network;
        CFRetain(network);
        sim_network_add(network, &start->message);
    }
    pass_on(sim_fault_set(SIM_FAULT_start_delay_ms) ? sim_fault_value(SIM_FAULT_start_delay_ms) : 0, start, do_start);
    return interface;
}

interface_ref vmnet_start_interface(xpc_object_t interface_desc, dispatch_queue_t queue,
                                    vmnet_start_interface_completion_handler_t handler) {
    return sim_interface_start(NULL, interface_desc, queue, handler, "vmnet_start_interface");
}

/* -- Use. -- */

struct vmnet_interface *sim_interface_running(interface_ref handle, const char *where, vmnet_return_t *status) {
    struct vmnet_interface *interface = (struct vmnet_interface *)sim_object_check(handle, SIM_INTERFACE, where);
    int state = atomic_load(&interface->state);
    if (state == SIM_RUNNING)
        return interface;
    *status = state == SIM_STARTING ? VMNET_SETUP_INCOMPLETE : VMNET_FAILURE;
    if (state == SIM_STOPPED)
        sim_violation("%s: called after the interface was stopped", where);
    return NULL;
}

bool sim_interface_needs_stop(const struct vmnet_interface *interface) {
    return atomic_load(&interface->state) == SIM_RUNNING;
}

vmnet_return_t vmnet_interface_set_event_callback(interface_ref handle, interface_event_t event_mask,
                                                  dispatch_queue_t queue, vmnet_interface_event_callback_t callback) {
    static const char where[] = "vmnet_interface_set_event_callback";
    vmnet_return_t status;
    sim_check_process(where);
    struct vmnet_interface *interface = sim_interface_running(handle, where, &status);
    if (!interface)
        return status;
    if (event_mask != VMNET_INTERFACE_PACKETS_AVAILABLE || (callback && !queue)) {
        sim_violation("%s: event mask %#x%s", where, event_mask, callback && !queue ? ", and no queue" : "");
        return VMNET_INVALID_ARGUMENT;
    }
    if (callback && sim_fault_set(SIM_FAULT_callback_refused))
        return VMNET_FAILURE;
    void *kept = callback ? sim_block_keep(callback, where) : NULL;
    if (kept)
        dispatch_retain(queue);
    pthread_mutex_lock(&interface->callback_lock);
    void *old = interface->callback;
    dispatch_queue_t old_queue = interface->callback_queue;
    interface->callback = kept;
    interface->callback_queue = kept ? queue : NULL;
    pthread_mutex_unlock(&interface->callback_lock);
    if (kept)
        sim_watch_begin(interface);
    else
        sim_watch_end(interface);
    if (old) {
        sim_block_drop(old); /* one that runs keeps its own */
        dispatch_release(old_queue);
    }
    return VMNET_SUCCESS;
}

/* -- Stop. -- */

static void deliver_stop(void *pointer) {
    struct change *stop = pointer;
    SIM_INVOKE(stop->handler, void (*)(void *, vmnet_return_t))(stop->handler, stop->status);
    end_change(stop);
}

static void do_stop(void *pointer) {
    struct change *stop = pointer;
    struct vmnet_interface *interface = stop->interface;
    sim_watch_end(interface);
    pthread_rwlock_wrlock(&interface->tap_lock);
    close(interface->tap);
    interface->tap = -1;
    pthread_rwlock_unlock(&interface->tap_lock);
    sim_message_begin(&stop->message, "stop");
    sim_message_add_number(&stop->message, "interface", interface->number);
    stop->status = sim_fabric_ask(&stop->message);
    pthread_mutex_lock(&interface->callback_lock);
    void *callback = interface->callback;
    dispatch_queue_t callback_queue = interface->callback_queue;
    interface->callback = NULL;
    interface->callback_queue = NULL;
    pthread_mutex_unlock(&interface->callback_lock);
    if (callback) {
        sim_block_drop(callback);
        dispatch_release(callback_queue);
    }
    if (interface->network)
        CFRelease(interface->network);
    atomic_store(&interface->state, SIM_STOPPED);
    if (sim_fault_set(SIM_FAULT_stop_status))
        stop->status = sim_fault_value(SIM_FAULT_stop_status);
    if (sim_fault_set(SIM_FAULT_stop_lost))
        end_change(stop);
    else
        dispatch_async_f(stop->queue, stop, deliver_stop);
}

vmnet_return_t vmnet_stop_interface(interface_ref handle, dispatch_queue_t queue,
                                    vmnet_interface_completion_handler_t handler) {
    static const char where[] = "vmnet_stop_interface";
    sim_check_process(where);
    struct vmnet_interface *interface = (struct vmnet_interface *)sim_object_check(handle, SIM_INTERFACE, where);
    if (!queue || !handler) {
        sim_violation("%s: NULL where a %s belongs", where, queue ? "handler" : "queue");
        return VMNET_INVALID_ARGUMENT;
    }
    if (sim_fault_set(SIM_FAULT_stop_refused))
        return VMNET_FAILURE;
    int state = SIM_RUNNING;
    if (!atomic_compare_exchange_strong(&interface->state, &state, SIM_STOPPING)) {
        if (state == SIM_STOPPING || state == SIM_STOPPED)
            sim_fatal("%s: the interface was stopped before; the real framework crashes here", where);
        return state == SIM_STARTING ? VMNET_SETUP_INCOMPLETE : VMNET_INVALID_ARGUMENT;
    }
    struct change *stop = make_change(interface, queue, handler, where);
    pass_on(sim_fault_set(SIM_FAULT_stop_delay_ms) ? sim_fault_value(SIM_FAULT_stop_delay_ms) : 0, stop, do_stop);
    return VMNET_SUCCESS;
}

/* -- Names that can be bridged. -- */

xpc_object_t vmnet_copy_shared_interface_list(void) {
    sim_check_process("vmnet_copy_shared_interface_list");
    struct sim_message *message = calloc(1, sizeof *message);
    xpc_object_t list = NULL;
    sim_message_begin(message, "list");
    if (!sim_fault_set(SIM_FAULT_list_null) && sim_fabric_ask(message) == VMNET_SUCCESS) {
        char names[2048], *rest = names;
        list = xpc_array_create(NULL, 0);
        if (sim_message_get(message, "names", names, sizeof names))
            for (char *name = strtok_r(rest, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
                xpc_object_t text = xpc_string_create(name);
                xpc_array_append_value(list, text);
                xpc_release(text);
            }
    }
    free(message);
    return list;
}
