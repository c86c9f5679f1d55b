/*
 * relay.c: a program written for vmnet.framework: carries frames between an interface and a TAP, which may be
 * in another network namespace. The tests compile it against the simulator's headers; what concerns vmnet
 * would compile on a Mac as it is.
 *
 *     relay TAP_NAME NAMESPACE_FILE key=value…
 *
 * Keys are those of the framework without `vmnet_`: operation_mode=shared, start_address=192.168.105.1, …
 * It says what the interface reports, then "ready", and ends when its standard input does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uuid/uuid.h>
#include <vmnet/vmnet.h>

#define BATCH 64
#define LARGEST 65600

struct batch {
    struct vmpktdesc packets[BATCH];
    struct iovec vectors[BATCH];
    char room[BATCH][LARGEST];
};

static interface_ref interface;
static size_t max_packet;
static int tap;

static void reset(struct batch *batch) {
    for (int i = 0; i < BATCH; i++) {
        batch->vectors[i] = (struct iovec){batch->room[i], max_packet};
        batch->packets[i] = (struct vmpktdesc){max_packet, &batch->vectors[i], 1, 0};
    }
}

static void from_vmnet(struct batch *batch) {
    for (int count = BATCH; count > 0;) {
        reset(batch);
        count = BATCH;
        if (vmnet_read(interface, batch->packets, &count) != VMNET_SUCCESS)
            return;
        for (int i = 0; i < count; i++)
            if (write(tap, batch->room[i], batch->packets[i].vm_pkt_size) < 0)
                perror("write");
    }
}

static void to_vmnet(struct batch *batch) {
    ssize_t length = read(tap, batch->room[0], LARGEST);
    if (length <= 0)
        return;
    batch->vectors[0] = (struct iovec){batch->room[0], (size_t)length};
    batch->packets[0] = (struct vmpktdesc){(size_t)length, &batch->vectors[0], 1, 0};
    int count = 1;
    vmnet_return_t status = vmnet_write(interface, batch->packets, &count);
    if (status != VMNET_SUCCESS)
        fprintf(stderr, "vmnet_write: %u\n", status);
}

static int open_tap(const char *name, const char *namespace) {
    int fd = open(namespace, O_RDONLY | O_CLOEXEC), here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || here < 0 || setns(fd, CLONE_NEWNET) < 0)
        return -1;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (device < 0 || ioctl(device, TUNSETIFF, &request) < 0 || setns(here, CLONE_NEWNET) < 0)
        return -1;
    close(fd);
    close(here);
    return device;
}

static uint64_t mode_named(const char *name) {
    if (!strcmp(name, "host"))
        return VMNET_HOST_MODE;
    return !strcmp(name, "shared") ? VMNET_SHARED_MODE : VMNET_BRIDGED_MODE;
}

static void add(xpc_object_t description, const char *name, const char *value) {
    char key[64];
    uuid_t uuid;
    snprintf(key, sizeof key, "vmnet_%s", name);
    if (!strcmp(name, "operation_mode"))
        xpc_dictionary_set_uint64(description, key, mode_named(value));
    else if (!strncmp(name, "enable_", 7))
        xpc_dictionary_set_bool(description, key, !strcmp(value, "true"));
    else if (!strcmp(name, "mtu"))
        xpc_dictionary_set_uint64(description, key, strtoull(value, NULL, 10));
    else if (uuid_parse(value, uuid) == 0)
        xpc_dictionary_set_uuid(description, key, uuid);
    else
        xpc_dictionary_set_string(description, key, value);
}

static bool say(const char *key, xpc_object_t value) {
    if (xpc_get_type(value) == XPC_TYPE_STRING)
        printf("%s=%s\n", key, xpc_string_get_string_ptr(value));
    else if (xpc_get_type(value) == XPC_TYPE_UINT64)
        printf("%s=%llu\n", key, (unsigned long long)xpc_uint64_get_value(value));
    return true;
}

static vmnet_return_t start(xpc_object_t description, dispatch_queue_t queue) {
    dispatch_semaphore_t done = dispatch_semaphore_create(0);
    __block vmnet_return_t result = VMNET_FAILURE;
    interface = vmnet_start_interface(description, queue, ^(vmnet_return_t status, xpc_object_t facts) {
        result = status;
        if (status == VMNET_SUCCESS) {
            max_packet = xpc_dictionary_get_uint64(facts, vmnet_max_packet_size_key);
            xpc_dictionary_apply(facts, ^bool(const char *key, xpc_object_t value) {
                return say(key, value);
            });
        }
        dispatch_semaphore_signal(done);
    });
    if (interface)
        dispatch_semaphore_wait(done, DISPATCH_TIME_FOREVER);
    dispatch_release(done);
    return result;
}

static void relay(dispatch_queue_t queue) {
    struct batch *inward = calloc(1, sizeof *inward), *outward = calloc(1, sizeof *outward);
    vmnet_interface_set_event_callback(interface, VMNET_INTERFACE_PACKETS_AVAILABLE, queue,
                                       ^(interface_event_t mask, xpc_object_t event) {
                                           (void)mask;
                                           (void)event;
                                           from_vmnet(inward);
                                       });
    printf("ready\n");
    fflush(stdout);
    struct pollfd wait[2] = {{.fd = tap, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    while (poll(wait, 2, -1) >= 0 && !wait[1].revents)
        to_vmnet(outward);
    vmnet_interface_set_event_callback(interface, VMNET_INTERFACE_PACKETS_AVAILABLE, NULL, NULL);
    dispatch_semaphore_t stopped = dispatch_semaphore_create(0);
    vmnet_stop_interface(interface, queue, ^(vmnet_return_t result) {
        (void)result;
        dispatch_semaphore_signal(stopped);
    });
    dispatch_semaphore_wait(stopped, DISPATCH_TIME_FOREVER);
    dispatch_release(stopped);
    free(inward);
    free(outward);
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    tap = open_tap(argv[1], argv[2]);
    if (tap < 0) {
        perror(argv[1]);
        return 1;
    }
    xpc_object_t description = xpc_dictionary_create(NULL, NULL, 0);
    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            return 2;
        *value = '\0';
        add(description, argv[i], value + 1);
    }
    dispatch_queue_t queue = dispatch_queue_create("relay", DISPATCH_QUEUE_SERIAL);
    vmnet_return_t status = start(description, queue);
    xpc_release(description);
    if (status == VMNET_SUCCESS)
        relay(queue);
    else
        printf("failed %u\n", status);
    dispatch_release(queue);
    return status != VMNET_SUCCESS;
}
