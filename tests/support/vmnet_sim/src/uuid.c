/* uuid.c: UUIDs, as libSystem has them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uuid/uuid.h>

#include "report.h"

void uuid_clear(uuid_t out) {
    memset(out, 0, 16);
}

void uuid_copy(uuid_t out, const uuid_t in) {
    memcpy(out, in, 16);
}

int uuid_compare(const uuid_t one, const uuid_t other) {
    return memcmp(one, other, 16);
}

int uuid_is_null(const uuid_t uuid) {
    static const uuid_t null;
    return !memcmp(uuid, null, 16);
}

void uuid_generate_random(uuid_t out) {
    if (getrandom(out, 16, 0) != 16)
        sim_fatal("no random numbers");
    out[6] = (unsigned char)((out[6] & 0x0f) | 0x40);
    out[8] = (unsigned char)((out[8] & 0x3f) | 0x80);
}

void uuid_generate(uuid_t out) {
    uuid_generate_random(out);
}

int uuid_parse(const char *text, uuid_t out) {
    uuid_t parsed;
    int digits = 0;
    if (strlen(text) != 36)
        return -1;
    for (int i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-')
                return -1;
            continue;
        }
        if (!isxdigit((unsigned char)text[i]))
            return -1;
        const char digit[2] = {text[i], '\0'};
        unsigned char value = (unsigned char)strtoul(digit, NULL, 16);
        parsed[digits / 2] = digits % 2 ? (unsigned char)(parsed[digits / 2] | value) : (unsigned char)(value << 4);
        digits++;
    }
    uuid_copy(out, parsed);
    return 0;
}

static void unparse(const uuid_t uuid, char *out, const char *format) {
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        sprintf(out, format, uuid[i]);
        out += 2;
    }
}

void uuid_unparse_upper(const uuid_t uuid, char *out) {
    unparse(uuid, out, "%02X");
}

void uuid_unparse_lower(const uuid_t uuid, char *out) {
    unparse(uuid, out, "%02x");
}

void uuid_unparse(const uuid_t uuid, char *out) {
    uuid_unparse_upper(uuid, out);
}
