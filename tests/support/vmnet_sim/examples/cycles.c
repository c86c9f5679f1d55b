/*
 * cycles.c: starts and stops an interface again and again, with an event callback, a read and a write each
 * time. One interface stays, so that the network runs on.
 *
 *     cycles COUNT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmnet/vmnet.h>

static dispatch_queue_t queue;
static dispatch_semaphore_t done;

static interface_ref start(void) {
    xpc_object_t description = xpc_dictionary_create(NULL, NULL, 0);
    xpc_dictionary_set_uint64(description, vmnet_operation_mode_key, VMNET_HOST_MODE);
    __block vmnet_return_t result = VMNET_FAILURE;
    __block xpc_object_t kept = NULL;
    interface_ref interface = vmnet_start_interface(description, queue, ^(vmnet_return_t status, xpc_object_t facts) {
        result = status;
        if (facts)
            kept = xpc_retain(facts);
        dispatch_semaphore_signal(done);
    });
    xpc_release(description);
    if (!interface)
        return NULL;
    dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
    bool good = result == VMNET_SUCCESS && xpc_dictionary_get_uint64(kept, vmnet_max_packet_size_key) == 1514;
    if (kept)
        xpc_release(kept);
    return good ? interface : NULL;
}

static bool use(interface_ref interface) {
    static unsigned char frame[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, room[1514];
    __block unsigned long estimated = 0;
    vmnet_interface_set_event_callback(interface, VMNET_INTERFACE_PACKETS_AVAILABLE, queue,
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

static bool stop(interface_ref interface) {
    __block vmnet_return_t result = VMNET_FAILURE;
    if (vmnet_stop_interface(interface, queue, ^(vmnet_return_t status) {
            result = status;
            dispatch_semaphore_signal(done);
        }) != VMNET_SUCCESS)
        return false;
    dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
    return result == VMNET_SUCCESS;
}

int main(int argc, char **argv) {
    int cycles = argc > 1 ? atoi(argv[1]) : 1, finished = 0;
    queue = dispatch_queue_create("cycles", DISPATCH_QUEUE_SERIAL);
    done = dispatch_semaphore_create(0);
    interface_ref first = start();
    while (first && finished < cycles) {
        interface_ref interface = start();
        if (!interface || !use(interface) || !stop(interface))
            break;
        finished++;
    }
    bool ended = first && stop(first);
    dispatch_release(done);
    dispatch_release(queue);
    printf("%d\n", finished);
    return !ended || finished < cycles;
}
