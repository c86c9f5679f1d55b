/*
 * fabric_client.h: the line to the root process that does the kernel's part (fabric.py).
 *
 * A request is one message `verb key=value key=value`, its answer `status=1000 key=value`; a TAP comes with
 * the answer. The connection is the client's identity: when it ends, the fabric takes down what it had.
 */
#ifndef SIM_FABRIC_CLIENT_H
#define SIM_FABRIC_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <vmnet/vmnet.h>

#define SIM_MESSAGE 32768

struct sim_message {
    char text[SIM_MESSAGE];
    size_t length;
    bool bad; /* a value did not fit or has a character that cannot be sent */
    int fd;   /* of an answer; -1 without */
};

void sim_message_begin(struct sim_message *message, const char *verb);
/* `value` may not have blanks. */
void sim_message_add(struct sim_message *message, const char *key, const char *value);
void sim_message_add_number(struct sim_message *message, const char *key, unsigned long long value);
void sim_message_add_uuid(struct sim_message *message, const char *key, const uint8_t uuid[16]);

/* Sends the request and puts the answer in its place. VMNET_FAILURE when nobody answers. */
vmnet_return_t sim_fabric_ask(struct sim_message *message);

/* A value of an answer, copied into `out`; false when it is not there. */
bool sim_message_get(const struct sim_message *message, const char *key, char *out, size_t room);
unsigned long long sim_message_get_number(const struct sim_message *message, const char *key);
bool sim_message_get_uuid(const struct sim_message *message, const char *key, uint8_t uuid[16]);

#endif
