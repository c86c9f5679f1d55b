/*
 * driver.c: the calls of vmnet.framework, one by one, as a line on standard input asks for them; the outcome is
 * a line on standard output. The conformance tests speak to it.
 *
 *     set KEY TYPE VALUE            into the description; KEY without vmnet_, TYPE uint64, bool, string or uuid
 *     start MILLISECONDS [concurrent]   NULL, LOST when the handler is not called in time, or
 *                                   STATUS queue=LABEL early=(handler ran before the call returned) KEY=VALUE…
 *     callback on|off|block         STATUS; with block, callbacks wait until `unblock`
 *     unblock
 *     events COUNT MILLISECONDS     COUNT ESTIMATE… of the events since the last question
 *     read COUNT [CAPACITY [IOVCNT]]    STATUS COUNT HEX…, vm_pkt_size and iov_len of the first
 *     write COUNT IOVCNT DIFFERENCE HEX     STATUS COUNT: the frame COUNT times, iov_len = length + DIFFERENCE
 *     stop MILLISECONDS             the call's result and the handler's, or LOST
 *     list                          what can be bridged
 *     quit
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>
#include <vmnet/vmnet.h>

#define MOST 600
#define LARGEST 66000

static interface_ref interface;
static dispatch_queue_t queue;
static xpc_object_t description;
static uint64_t max_packet = 1514;
static dispatch_semaphore_t event_seen, gate;
static uint32_t estimates[4096];
static volatile int event_count;
static char rooms[MOST][LARGEST];

static dispatch_time_t in(long milliseconds) {
    return dispatch_time(DISPATCH_TIME_NOW, (int64_t)(milliseconds * (long)NSEC_PER_MSEC));
}

static void set(const char *name, const char *type, const char *value) {
    char key[64];
    snprintf(key, sizeof key, "vmnet_%s", name);
    uuid_t uuid;
    if (!strcmp(type, "uint64"))
        xpc_dictionary_set_uint64(description, key, strtoull(value, NULL, 10));
    else if (!strcmp(type, "bool"))
        xpc_dictionary_set_bool(description, key, !strcmp(value, "true"));
    else if (!strcmp(type, "uuid") && uuid_parse(value, uuid) == 0)
        xpc_dictionary_set_uuid(description, key, uuid);
    else
        xpc_dictionary_set_string(description, key, value);
    puts("ok");
}

static void describe(FILE *out, xpc_object_t facts) {
    xpc_dictionary_apply(facts, ^bool(const char *key, xpc_object_t value) {
        uuid_string_t text;
        fprintf(out, " %s=", key + strlen("vmnet_"));
        if (xpc_get_type(value) == XPC_TYPE_STRING) {
            fputs(xpc_string_get_string_ptr(value), out);
        } else if (xpc_get_type(value) == XPC_TYPE_UINT64) {
            fprintf(out, "%llu", (unsigned long long)xpc_uint64_get_value(value));
        } else if (xpc_get_type(value) == XPC_TYPE_UUID) {
            uuid_unparse(xpc_uuid_get_bytes(value), text);
            fputs(text, out);
        }
        return true;
    });
}

struct answer {
    dispatch_semaphore_t done;
    char text[2048];
};

/* An answer that is late goes to memory that stays. */
static struct answer *new_answer(void) {
    struct answer *answer = calloc(1, sizeof *answer);
    answer->done = dispatch_semaphore_create(0);
    return answer;
}

static void give_up(struct answer *answer) {
    dispatch_release(answer->done);
    free(answer);
}

static void start(long milliseconds, bool concurrent) {
    if (queue)
        dispatch_release(queue);
    queue = dispatch_queue_create("driver", concurrent ? DISPATCH_QUEUE_CONCURRENT : DISPATCH_QUEUE_SERIAL);
    struct answer *answer = new_answer();
    __block volatile bool returned = false;
    interface = vmnet_start_interface(description, queue, ^(vmnet_return_t status, xpc_object_t facts) {
        FILE *out = fmemopen(answer->text, sizeof answer->text, "w");
        fprintf(out, "%u queue=%s early=%d", status, dispatch_queue_get_label(NULL), !returned);
        if (facts) {
            describe(out, facts);
            max_packet = xpc_dictionary_get_uint64(facts, vmnet_max_packet_size_key);
        }
        fclose(out);
        dispatch_semaphore_signal(answer->done);
    });
    returned = true;
    if (!interface) {
        puts("NULL");
        give_up(answer);
    } else if (dispatch_semaphore_wait(answer->done, in(milliseconds)) != 0) {
        puts("LOST");
    } else {
        puts(answer->text);
        give_up(answer);
    }
}

static void callback(const char *how) {
    bool block = !strcmp(how, "block");
    if (!strcmp(how, "off")) {
        printf("%u\n", vmnet_interface_set_event_callback(interface, VMNET_INTERFACE_PACKETS_AVAILABLE, NULL, NULL));
        return;
    }
    printf("%u\n", vmnet_interface_set_event_callback(
                       interface, VMNET_INTERFACE_PACKETS_AVAILABLE, queue, ^(interface_event_t mask, xpc_object_t event) {
                           if (mask != VMNET_INTERFACE_PACKETS_AVAILABLE)
                               abort();
                           int number = __sync_fetch_and_add(&event_count, 1);
                           estimates[number % 4096] = (uint32_t)xpc_dictionary_get_uint64(
                               event, vmnet_estimated_packets_available_key);
                           dispatch_semaphore_signal(event_seen);
                           if (block)
                               dispatch_semaphore_wait(gate, DISPATCH_TIME_FOREVER);
                       }));
}

static void events(int wanted, long milliseconds) {
    dispatch_time_t deadline = in(milliseconds);
    int seen = 0;
    while (seen < wanted && dispatch_semaphore_wait(event_seen, deadline) == 0)
        seen++;
    while (dispatch_semaphore_wait(event_seen, DISPATCH_TIME_NOW) == 0)
        seen++;
    printf("%d", seen);
    for (int i = 0; i < event_count; i++)
        printf(" %u", estimates[i]);
    event_count = 0;
    putchar('\n');
}

static void read_frames(int count, size_t capacity, uint32_t iovcnt) {
    struct vmpktdesc packets[MOST];
    struct iovec vectors[MOST];
    for (int i = 0; i < MOST; i++) {
        vectors[i] = (struct iovec){rooms[i], capacity};
        packets[i] = (struct vmpktdesc){capacity, &vectors[i], iovcnt, 0};
    }
    vmnet_return_t status = vmnet_read(interface, packets, &count);
    printf("%u %d", status, count);
    for (int i = 0; status == VMNET_SUCCESS && i < count; i++) {
        if (vectors[i].iov_len != capacity)
            abort();
        putchar(' ');
        for (size_t at = 0; at < packets[i].vm_pkt_size; at++)
            printf("%02x", (unsigned char)rooms[i][at]);
    }
    putchar('\n');
}

static void write_frames(int count, uint32_t iovcnt, long difference, const char *hex) {
    struct vmpktdesc packets[MOST];
    struct iovec vectors[MOST];
    static char frame[LARGEST];
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++)
        sscanf(hex + 2 * i, "%2hhx", (unsigned char *)&frame[i]);
    for (int i = 0; i < MOST; i++) {
        vectors[i] = (struct iovec){frame, (size_t)((long)length + difference)};
        packets[i] = (struct vmpktdesc){length, &vectors[i], iovcnt, 0};
    }
    vmnet_return_t status = vmnet_write(interface, packets, &count);
    printf("%u %d\n", status, count);
}

static void stop(long milliseconds) {
    struct answer *answer = new_answer();
    vmnet_return_t result = vmnet_stop_interface(interface, queue, ^(vmnet_return_t status) {
        snprintf(answer->text, sizeof answer->text, "%u", status);
        dispatch_semaphore_signal(answer->done);
    });
    bool called = dispatch_semaphore_wait(answer->done, in(milliseconds)) == 0;
    printf("%u %s\n", result, called ? answer->text : "LOST");
    if (called || result != VMNET_SUCCESS)
        give_up(answer);
}

static void list(void) {
    xpc_object_t names = vmnet_copy_shared_interface_list();
    if (!names) {
        puts("NULL");
        return;
    }
    for (size_t i = 0; i < xpc_array_get_count(names); i++)
        printf("%s ", xpc_array_get_string(names, i));
    putchar('\n');
    xpc_release(names);
}

int main(void) {
    static char line[3 * LARGEST];
    description = xpc_dictionary_create(NULL, NULL, 0);
    event_seen = dispatch_semaphore_create(0);
    gate = dispatch_semaphore_create(0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin) && strcmp(line, "quit\n") != 0) {
        char *words[6] = {0}, *rest = line;
        for (int i = 0; i < 6; i++)
            words[i] = strtok_r(rest, " \n", &rest);
        if (!strcmp(words[0], "set"))
            set(words[1], words[2], words[3]);
        else if (!strcmp(words[0], "start"))
            start(atol(words[1]), words[2] != NULL);
        else if (!strcmp(words[0], "callback"))
            callback(words[1]);
        else if (!strcmp(words[0], "unblock"))
            printf("%ld\n", (long)dispatch_semaphore_signal(gate));
        else if (!strcmp(words[0], "events"))
            events(atoi(words[1]), atol(words[2]));
        else if (!strcmp(words[0], "read"))
            read_frames(atoi(words[1]), words[2] ? (size_t)atol(words[2]) : max_packet,
                        words[2] && words[3] ? (uint32_t)atol(words[3]) : 1);
        else if (!strcmp(words[0], "write"))
            write_frames(atoi(words[1]), (uint32_t)atol(words[2]), atol(words[3]), words[4]);
        else if (!strcmp(words[0], "stop"))
            stop(atol(words[1]));
        else if (!strcmp(words[0], "list"))
            list();
        else
            return 2;
    }
    xpc_release(description);
    dispatch_release(event_seen);
    dispatch_release(gate);
    if (queue)
        dispatch_release(queue);
    return 0;
}
