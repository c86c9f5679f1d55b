/* fabric_client.c: requests to the fabric over one SOCK_SEQPACKET connection per process. */
#include "fabric_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "personality.h"
#include "report.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int connection = -1;

static void append(struct sim_message *message, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof message->text - message->length;
    int length = vsnprintf(message->text + message->length, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room)
        message->bad = true;
    else
        message->length += (size_t)length;
}

void sim_message_begin(struct sim_message *message, const char *verb) {
    message->length = 0;
    message->bad = false;
    message->fd = -1;
    append(message, "%s macos=%d", verb, sim_macos());
}

void sim_message_add(struct sim_message *message, const char *key, const char *value) {
    for (const char *at = value; *at; at++)
        if (*at <= ' ' || *at > '~' || *at == '=')
            message->bad = true;
    append(message, " %s=%s", key, value);
}

void sim_message_add_number(struct sim_message *message, const char *key, unsigned long long value) {
    append(message, " %s=%llu", key, value);
}

void sim_message_add_uuid(struct sim_message *message, const char *key, const uint8_t uuid[16]) {
    append(message, " %s=", key);
    for (int i = 0; i < 16; i++)
        append(message, "%02x", uuid[i]);
}

static int connect_to_fabric(void) {
    const char *path = getenv("VMNET_SIM_FABRIC");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof address.sun_path) {
        sim_violation("VMNET_SIM_FABRIC does not name the fabric's socket");
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    sim_violation("the fabric does not answer at %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool receive(struct sim_message *message) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec where = {message->text, sizeof message->text - 1};
    struct msghdr header = {
        .msg_iov = &where, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    ssize_t length;
    do
        length = recvmsg(connection, &header, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length <= 0)
        return false;
    message->text[length] = '\0';
    message->length = (size_t)length;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part))
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
            memcpy(&message->fd, CMSG_DATA(part), sizeof(int));
    return true;
}

vmnet_return_t sim_fabric_ask(struct sim_message *message) {
    if (message->bad)
        return VMNET_INVALID_ARGUMENT;
    vmnet_return_t status = VMNET_FAILURE;
    pthread_mutex_lock(&lock);
    if (connection < 0)
        connection = connect_to_fabric();
    if (connection >= 0) {
        ssize_t sent;
        do
            sent = send(connection, message->text, message->length, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent >= 0 && receive(message)) {
            status = (vmnet_return_t)sim_message_get_number(message, "status");
        } else {
            sim_violation("the fabric has gone: %s", strerror(errno));
            close(connection);
            connection = -1;
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

/* The text after `key=`, and its length. */
static const char *find(const struct sim_message *message, const char *key, size_t *length) {
    size_t key_length = strlen(key);
    for (const char *at = message->text; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, key, key_length) == 0 && at[key_length] == '=') {
            *length = strcspn(at + key_length + 1, " ");
            return at + key_length + 1;
        }
    }
    return NULL;
}

bool sim_message_get(const struct sim_message *message, const char *key, char *out, size_t room) {
    size_t length;
    const char *value = find(message, key, &length);
    if (!value || length >= room)
        return false;
    memcpy(out, value, length);
    out[length] = '\0';
    return true;
}

unsigned long long sim_message_get_number(const struct sim_message *message, const char *key) {
    char text[32];
    return sim_message_get(message, key, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

bool sim_message_get_uuid(const struct sim_message *message, const char *key, uint8_t uuid[16]) {
    char text[33];
    if (!sim_message_get(message, key, text, sizeof text))
        return false;
    for (int i = 0; i < 16; i++)
        if (sscanf(text + 2 * i, "%2hhx", &uuid[i]) != 1)
            return false;
    return true;
}

static __attribute__((destructor(104))) void hang_up(void) {
    if (connection >= 0)
        close(connection);
}
