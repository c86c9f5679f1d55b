/*
 * cycles.c: starts and stops interfaces again and again, several at a time, with an event callback, a read and
 * a write each time. One interface stays, so that the network runs on.
 *
 *     cycles COUNT
 *
 * Says how many cycles went well, and how many objects live at the end that did not live before them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmnet/vmnet.h>

#define WORKERS 8

/* The simulator's own: how many objects live when all work is done. */
long vmnet_sim_objects(void);

struct worker {
    dispatch_queue_t queue;
    dispatch_semaphore_t done;
    int finished;
};

static struct worker new_worker(void) {
    return (struct worker){dispatch_queue_create("cycles", DISPATCH_QUEUE_SERIAL), dispatch_semaphore_create(0), 0};
}

static void end_worker(struct worker *worker) {
    dispatch_release(worker->done);
    dispatch_release(worker->queue);
}

static interface_ref start(struct worker *worker) {
    xpc_object_t description = xpc_dictionary_create(NULL, NULL, 0);
    xpc_dictionary_set_uint64(description, vmnet_operation_mode_key, VMNET_HOST_MODE);
    __block vmnet_return_t result = VMNET_FAILURE;
    __block xpc_object_t kept = NULL;
    interface_ref interface =
        vmnet_start_interface(description, worker->queue, ^(vmnet_return_t status, xpc_object_t facts) {
            result = status;
            if (facts)
                kept = xpc_retain(facts);
            dispatch_semaphore_signal(worker->done);
        });
    xpc_release(description);
    if (!interface)
        return NULL;
    dispatch_semaphore_wait(worker->done, DISPATCH_TIME_FOREVER);
    bool good = result == VMNET_SUCCESS && xpc_dictionary_get_uint64(kept, vmnet_max_packet_size_key) == 1514;
    if (kept)
        xpc_release(kept);
    return good ? interface : NULL;
}

static bool use(interface_ref interface, struct worker *worker) {
    unsigned char frame[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, room[1514];
    __block unsigned long estimated = 0;
    vmnet_interface_set_event_callback(interface, VMNET_INTERFACE_PACKETS_AVAILABLE, worker->queue,
                                       ^(interface_event_t mask, xpc_object_t event) {
                                           (void)mask;
                                           estimated += xpc_dictionary_get_uint64(
                                               event, vmnet_estimated_packets_available_key);
                                       });
    struct iovec vector = {frame, sizeof frame};
    struct vmpktdesc packet = {sizeof frame, &vector, 1, 0};
    int count = 1;
    bool written = vmnet_write(interface, &packet, &count) == VMNET_SUCCESS;
    vector = (struct iovec){room, sizeof room};
    packet = (struct vmpktdesc){sizeof room, &vector, 1, 0};
    count = 1;
    return vmnet_read(interface, &packet, &count) == VMNET_SUCCESS && written && estimated < 100000;
}

static bool stop(interface_ref interface, struct worker *worker) {
    __block vmnet_return_t result = VMNET_FAILURE;
    if (vmnet_stop_interface(interface, worker->queue, ^(vmnet_return_t status) {
            result = status;
            dispatch_semaphore_signal(worker->done);
        }) != VMNET_SUCCESS)
        return false;
    dispatch_semaphore_wait(worker->done, DISPATCH_TIME_FOREVER);
    return result == VMNET_SUCCESS;
}

static int work(int cycles) {
    struct worker worker = new_worker();
    while (worker.finished < cycles) {
        interface_ref interface = start(&worker);
        if (!interface || !use(interface, &worker) || !stop(interface, &worker))
            break;
        worker.finished++;
    }
    int finished = worker.finished;
    end_worker(&worker);
    return finished;
}

int main(int argc, char **argv) {
    int cycles = argc > 1 ? atoi(argv[1]) : 1;
    __block int finished = 0;
    struct worker holder = new_worker();
    interface_ref first = start(&holder);
    if (!first)
        return 1;
    dispatch_queue_t queue = dispatch_queue_create("workers", DISPATCH_QUEUE_CONCURRENT);
    long before = vmnet_sim_objects();
    for (int i = 0; i < WORKERS; i++)
        dispatch_async(queue, ^{
            __sync_fetch_and_add(&finished, work(cycles / WORKERS));
        });
    dispatch_barrier_sync(queue, ^{
        printf("%d\n", finished);
    });
    bool stopped = stop(first, &holder);
    printf("%ld\n", vmnet_sim_objects() - before);
    dispatch_release(queue);
    end_worker(&holder);
    return !stopped || finished < cycles;
}
