/*
 * misuse.c: one mistake a program can make, by name. The simulator has to notice each.
 *
 *     misuse NAME
 */
#include <Block.h>
#include <CoreFoundation/CoreFoundation.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmnet/vmnet.h>

static dispatch_queue_t queue;
static char room[4096];

static interface_ref start(void) {
    xpc_object_t description = xpc_dictionary_create(NULL, NULL, 0);
    xpc_dictionary_set_uint64(description, vmnet_operation_mode_key, VMNET_HOST_MODE);
    dispatch_semaphore_t done = dispatch_semaphore_create(0);
    interface_ref interface = vmnet_start_interface(description, queue, ^(vmnet_return_t status, xpc_object_t facts) {
        (void)facts;
        if (status != VMNET_SUCCESS)
            exit(3);
        dispatch_semaphore_signal(done);
    });
    dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
    dispatch_release(done);
    xpc_release(description);
    return interface;
}

static void stop(interface_ref interface) {
    dispatch_semaphore_t done = dispatch_semaphore_create(0);
    vmnet_stop_interface(interface, queue, ^(vmnet_return_t status) {
        (void)status;
        dispatch_semaphore_signal(done);
    });
    dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
    dispatch_release(done);
}

static void read_with(interface_ref interface, size_t size, size_t length, uint32_t vectors, uint32_t flags, int count) {
    struct iovec vector = {room, length};
    struct vmpktdesc packet = {size, &vector, vectors, flags};
    vmnet_read(interface, &packet, &count);
}

static void with_interface(const char *name) {
    interface_ref interface = start();
    if (!strcmp(name, "not_stopped"))
        return;
    if (!strcmp(name, "size_not_reset"))
        read_with(interface, 60, 1514, 1, 0, 1);
    if (!strcmp(name, "stale_iovec"))
        read_with(interface, 1514, 60, 1, 0, 1);
    if (!strcmp(name, "two_iovecs"))
        read_with(interface, 1514, 1514, 2, 0, 1);
    if (!strcmp(name, "flags"))
        read_with(interface, 1514, 1514, 1, 1, 1);
    if (!strcmp(name, "too_many"))
        read_with(interface, 1514, 1514, 1, 0, 257);
    if (!strcmp(name, "released"))
        CFRelease(interface);
    if (!strcmp(name, "child_of_fork")) {
        pid_t child = fork();
        if (child == 0) {
            stop(interface);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    stop(interface);
    if (!strcmp(name, "read_after_stop"))
        read_with(interface, 1514, 1514, 1, 0, 1);
    if (!strcmp(name, "stopped_twice"))
        stop(interface);
}

static void with_objects(const char *name) {
    xpc_object_t object = xpc_dictionary_create(NULL, NULL, 0);
    xpc_dictionary_set_uint64(object, "number", 7);
    if (!strcmp(name, "released_twice"))
        xpc_release(object);
    if (!strcmp(name, "null_key"))
        xpc_dictionary_set_bool(object, NULL, true);
    if (!strcmp(name, "borrowed_released"))
        xpc_release(xpc_dictionary_get_value(object, "number"));
    if (!strcmp(name, "wrong_type"))
        xpc_array_get_count(object);
    if (!strcmp(name, "null_object"))
        xpc_release(NULL);
    if (!strcmp(name, "no_object"))
        xpc_release(room);
    if (!strcmp(name, "unknown_key")) {
        xpc_dictionary_set_uint64(object, "vmnet_operation_mode", VMNET_HOST_MODE);
        dispatch_semaphore_t done = dispatch_semaphore_create(0);
        interface_ref interface = vmnet_start_interface(object, queue, ^(vmnet_return_t status, xpc_object_t facts) {
            (void)status;
            (void)facts;
            dispatch_semaphore_signal(done);
        });
        dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
        dispatch_release(done);
        stop(interface);
    }
    if (strcmp(name, "xpc_leak") != 0)
        xpc_release(object);
}

static void with_dispatch(const char *name) {
    if (!strcmp(name, "queue_leak"))
        dispatch_queue_create("forgotten", DISPATCH_QUEUE_SERIAL);
    if (!strcmp(name, "semaphore_low")) {
        dispatch_semaphore_t semaphore = dispatch_semaphore_create(1);
        dispatch_semaphore_wait(semaphore, DISPATCH_TIME_NOW);
        dispatch_release(semaphore);
    }
    if (!strcmp(name, "deadlock"))
        dispatch_sync(queue, ^{
            dispatch_sync(queue, ^{
                puts("never");
            });
        });
    char *volatile lost = malloc(77);
    if (!strcmp(name, "lost_memory"))
        lost = NULL;
    if (!strncmp(name, "block_", 6)) {
        int captured = getpid();
        void (^block)(void) = Block_copy(^{
            printf("%d\n", captured);
        });
        if (strcmp(name, "block_leak") != 0)
            Block_release(block);
        if (!strcmp(name, "block_twice"))
            Block_release(block);
    }
    free(lost);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    queue = dispatch_queue_create("misuse", DISPATCH_QUEUE_SERIAL);
    with_dispatch(argv[1]);
    with_objects(argv[1]);
    with_interface(argv[1]);
    dispatch_release(queue);
    return 0;
}
