/* xpc_containers.c: arrays and dictionaries. Dictionaries of vmnet have a dozen keys: a list is enough. */
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "report.h"
#include "xpc_internal.h"

static void append(struct sim_xpc *container, const char *key, xpc_object_t value) {
    if (container->count == container->room) {
        container->room = container->room ? container->room * 2 : 8;
        container->entries = realloc(container->entries, container->room * sizeof *container->entries);
        if (!container->entries)
            sim_fatal("out of memory");
    }
    container->entries[container->count++] = (struct sim_entry){key ? strdup(key) : NULL, xpc_retain(value)};
    ((struct sim_xpc *)value)->containers++;
}

static void drop_value(xpc_object_t value) {
    ((struct sim_xpc *)value)->containers--;
    xpc_release(value);
}

/* -- Arrays. -- */

xpc_object_t xpc_array_create(const xpc_object_t *objects, size_t count) {
    struct sim_xpc *array = sim_xpc_create(XPC_TYPE_ARRAY);
    for (size_t i = 0; i < count; i++)
        append(array, NULL, objects[i]);
    return array;
}

void xpc_array_append_value(xpc_object_t array, xpc_object_t value) {
    struct sim_xpc *container = sim_xpc_check(array, XPC_TYPE_ARRAY, "xpc_array_append_value");
    sim_xpc_check(value, NULL, "xpc_array_append_value");
    append(container, NULL, value);
}

size_t xpc_array_get_count(xpc_object_t array) {
    return sim_xpc_check(array, XPC_TYPE_ARRAY, "xpc_array_get_count")->count;
}

xpc_object_t xpc_array_get_value(xpc_object_t array, size_t index) {
    struct sim_xpc *container = sim_xpc_check(array, XPC_TYPE_ARRAY, "xpc_array_get_value");
    if (index >= container->count)
        sim_fatal("xpc_array_get_value: index %zu of an array of %zu", index, container->count);
    return container->entries[index].value;
}

static xpc_object_t element(xpc_object_t array, size_t index, const char *where) {
    struct sim_xpc *container = sim_xpc_check(array, XPC_TYPE_ARRAY, where);
    return index < container->count ? container->entries[index].value : NULL;
}

const char *xpc_array_get_string(xpc_object_t array, size_t index) {
    xpc_object_t value = element(array, index, "xpc_array_get_string");
    return value ? xpc_string_get_string_ptr(value) : NULL;
}

uint64_t xpc_array_get_uint64(xpc_object_t array, size_t index) {
    xpc_object_t value = element(array, index, "xpc_array_get_uint64");
    return value ? xpc_uint64_get_value(value) : 0;
}

bool xpc_array_apply(xpc_object_t array, xpc_array_applier_t applier) {
    struct sim_xpc *container = sim_xpc_check(array, XPC_TYPE_ARRAY, "xpc_array_apply");
    for (size_t i = 0; i < container->count; i++)
        if (!SIM_INVOKE(applier, bool (*)(void *, size_t, xpc_object_t))(applier, i, container->entries[i].value))
            return false;
    return true;
}

/* -- Dictionaries. -- */

static struct sim_entry *lookup(xpc_object_t dictionary, const char *key, const char *where) {
    struct sim_xpc *container = sim_xpc_check(dictionary, XPC_TYPE_DICTIONARY, where);
    if (!key)
        sim_fatal("%s: NULL where a key belongs", where);
    for (size_t i = 0; i < container->count; i++)
        if (!strcmp(container->entries[i].key, key))
            return &container->entries[i];
    return NULL;
}

xpc_object_t xpc_dictionary_create_empty(void) {
    return sim_xpc_create(XPC_TYPE_DICTIONARY);
}

xpc_object_t xpc_dictionary_create(const char *const *keys, const xpc_object_t *values, size_t count) {
    xpc_object_t dictionary = sim_xpc_create(XPC_TYPE_DICTIONARY);
    if (count && (!keys || !values))
        sim_fatal("xpc_dictionary_create: NULL where %zu keys and values belong", count);
    for (size_t i = 0; i < count; i++)
        xpc_dictionary_set_value(dictionary, keys[i], values[i]);
    return dictionary;
}

void xpc_dictionary_set_value(xpc_object_t dictionary, const char *key, xpc_object_t value) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_set_value");
    struct sim_xpc *container = dictionary;
    if (value)
        sim_xpc_check(value, NULL, "xpc_dictionary_set_value");
    if (entry && value) {
        xpc_object_t old = entry->value;
        entry->value = xpc_retain(value);
        ((struct sim_xpc *)value)->containers++;
        drop_value(old);
    } else if (entry) {
        drop_value(entry->value);
        free(entry->key);
        *entry = container->entries[--container->count];
    } else if (value) {
        append(container, key, value);
    }
}

/* Puts a value that was made for this and gives up the maker's reference. */
static void put(xpc_object_t dictionary, const char *key, xpc_object_t value) {
    xpc_dictionary_set_value(dictionary, key, value);
    xpc_release(value);
}

void xpc_dictionary_set_bool(xpc_object_t dictionary, const char *key, bool value) {
    put(dictionary, key, xpc_bool_create(value));
}

void xpc_dictionary_set_int64(xpc_object_t dictionary, const char *key, int64_t value) {
    put(dictionary, key, xpc_int64_create(value));
}

void xpc_dictionary_set_uint64(xpc_object_t dictionary, const char *key, uint64_t value) {
    put(dictionary, key, xpc_uint64_create(value));
}

void xpc_dictionary_set_string(xpc_object_t dictionary, const char *key, const char *string) {
    put(dictionary, key, xpc_string_create(string));
}

void xpc_dictionary_set_uuid(xpc_object_t dictionary, const char *key, const unsigned char uuid[16]) {
    put(dictionary, key, xpc_uuid_create(uuid));
}

xpc_object_t xpc_dictionary_get_value(xpc_object_t dictionary, const char *key) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_get_value");
    return entry ? entry->value : NULL;
}

bool xpc_dictionary_get_bool(xpc_object_t dictionary, const char *key) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_get_bool");
    return entry && xpc_bool_get_value(entry->value);
}

int64_t xpc_dictionary_get_int64(xpc_object_t dictionary, const char *key) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_get_int64");
    return entry ? xpc_int64_get_value(entry->value) : 0;
}

uint64_t xpc_dictionary_get_uint64(xpc_object_t dictionary, const char *key) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_get_uint64");
    return entry ? xpc_uint64_get_value(entry->value) : 0;
}

const char *xpc_dictionary_get_string(xpc_object_t dictionary, const char *key) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_get_string");
    return entry ? xpc_string_get_string_ptr(entry->value) : NULL;
}

const uint8_t *xpc_dictionary_get_uuid(xpc_object_t dictionary, const char *key) {
    struct sim_entry *entry = lookup(dictionary, key, "xpc_dictionary_get_uuid");
    return entry ? xpc_uuid_get_bytes(entry->value) : NULL;
}

size_t xpc_dictionary_get_count(xpc_object_t dictionary) {
    return sim_xpc_check(dictionary, XPC_TYPE_DICTIONARY, "xpc_dictionary_get_count")->count;
}

bool xpc_dictionary_apply(xpc_object_t dictionary, xpc_dictionary_applier_t applier) {
    struct sim_xpc *container = sim_xpc_check(dictionary, XPC_TYPE_DICTIONARY, "xpc_dictionary_apply");
    typedef bool (*invoke)(void *, const char *, xpc_object_t);
    for (size_t i = 0; i < container->count; i++)
        if (!SIM_INVOKE(applier, invoke)(applier, container->entries[i].key, container->entries[i].value))
            return false;
    return true;
}
