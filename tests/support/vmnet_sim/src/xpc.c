/* xpc.c: XPC values: making, reading, counting, describing. Containers are in xpc_containers.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "xpc_internal.h"

const struct _xpc_type_s _xpc_type_array = {"array"}, _xpc_type_bool = {"bool"}, _xpc_type_dictionary = {"dictionary"},
                         _xpc_type_error = {"error"}, _xpc_type_int64 = {"int64"}, _xpc_type_null = {"null"},
                         _xpc_type_string = {"string"}, _xpc_type_uint64 = {"uint64"}, _xpc_type_uuid = {"uuid"};

static bool is_container(const struct sim_xpc *object) {
    return object->type == XPC_TYPE_ARRAY || object->type == XPC_TYPE_DICTIONARY;
}

static void destroy(struct sim_object *pointer) {
    struct sim_xpc *object = (struct sim_xpc *)pointer;
    if (object->type == XPC_TYPE_STRING)
        free(object->string);
    if (!is_container(object))
        return;
    for (size_t i = 0; i < object->count; i++) {
        free(object->entries[i].key);
        ((struct sim_xpc *)object->entries[i].value)->containers--;
        xpc_release(object->entries[i].value);
    }
    free(object->entries);
}

struct sim_xpc *sim_xpc_create(xpc_type_t type) {
    struct sim_xpc *object = sim_object_create(sizeof *object, SIM_XPC, destroy);
    object->type = type;
    return object;
}

struct sim_xpc *sim_xpc_check(xpc_object_t pointer, xpc_type_t type, const char *where) {
    struct sim_xpc *object = (struct sim_xpc *)sim_object_check(pointer, SIM_XPC, where);
    if (type && object->type != type)
        sim_fatal("%s: the object is of type %s, not %s", where, object->type->name, type->name);
    return object;
}

bool sim_xpc_is_contained(const struct sim_object *pointer) {
    const struct sim_xpc *object = (const struct sim_xpc *)pointer;
    return object->containers > 0 && atomic_load(&object->object.references) <= (long)object->containers;
}

const char *sim_xpc_type_name(const struct sim_object *pointer) {
    return ((const struct sim_xpc *)pointer)->type->name;
}

/* -- Any object. -- */

xpc_object_t xpc_retain(xpc_object_t object) {
    sim_object_retain(sim_xpc_check(object, NULL, "xpc_retain"));
    return object;
}

void xpc_release(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_release");
    if (object->containers > 0 && atomic_load(&object->object.references) <= (long)object->containers)
        sim_fatal("xpc_release: a borrowed %s was released: a container still holds it", object->type->name);
    sim_object_release(object);
}

xpc_type_t xpc_get_type(xpc_object_t object) {
    return sim_xpc_check(object, NULL, "xpc_get_type")->type;
}

const char *xpc_type_get_name(xpc_type_t type) {
    return type->name;
}

/* -- Values. -- */

xpc_object_t xpc_null_create(void) {
    return sim_xpc_create(XPC_TYPE_NULL);
}

xpc_object_t xpc_bool_create(bool value) {
    struct sim_xpc *object = sim_xpc_create(XPC_TYPE_BOOL);
    object->boolean = value;
    return object;
}

xpc_object_t xpc_int64_create(int64_t value) {
    struct sim_xpc *object = sim_xpc_create(XPC_TYPE_INT64);
    object->signed_number = value;
    return object;
}

xpc_object_t xpc_uint64_create(uint64_t value) {
    struct sim_xpc *object = sim_xpc_create(XPC_TYPE_UINT64);
    object->number = value;
    return object;
}

xpc_object_t xpc_string_create(const char *string) {
    if (!string)
        sim_fatal("xpc_string_create: NULL where a string belongs");
    struct sim_xpc *object = sim_xpc_create(XPC_TYPE_STRING);
    object->string = strdup(string);
    return object;
}

xpc_object_t xpc_uuid_create(const unsigned char bytes[16]) {
    if (!bytes)
        sim_fatal("xpc_uuid_create: NULL where a UUID belongs");
    struct sim_xpc *object = sim_xpc_create(XPC_TYPE_UUID);
    memcpy(object->uuid, bytes, 16);
    return object;
}

bool xpc_bool_get_value(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_bool_get_value");
    return object->type == XPC_TYPE_BOOL && object->boolean;
}

int64_t xpc_int64_get_value(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_int64_get_value");
    return object->type == XPC_TYPE_INT64 ? object->signed_number : 0;
}

uint64_t xpc_uint64_get_value(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_uint64_get_value");
    return object->type == XPC_TYPE_UINT64 ? object->number : 0;
}

const char *xpc_string_get_string_ptr(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_string_get_string_ptr");
    return object->type == XPC_TYPE_STRING ? object->string : NULL;
}

size_t xpc_string_get_length(xpc_object_t pointer) {
    const char *string = xpc_string_get_string_ptr(pointer);
    return string ? strlen(string) : 0;
}

const uint8_t *xpc_uuid_get_bytes(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_uuid_get_bytes");
    return object->type == XPC_TYPE_UUID ? object->uuid : NULL;
}

/* -- Copies, comparison, text. -- */

xpc_object_t xpc_copy(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_copy");
    if (!is_container(object))
        return xpc_retain(pointer); /* values never change */
    struct sim_xpc *copy = sim_xpc_create(object->type);
    for (size_t i = 0; i < object->count; i++) {
        xpc_object_t value = xpc_copy(object->entries[i].value);
        if (object->type == XPC_TYPE_ARRAY)
            xpc_array_append_value(copy, value);
        else
            xpc_dictionary_set_value(copy, object->entries[i].key, value);
        xpc_release(value);
    }
    return copy;
}

bool xpc_equal(xpc_object_t first, xpc_object_t second) {
    struct sim_xpc *one = sim_xpc_check(first, NULL, "xpc_equal"), *other = sim_xpc_check(second, NULL, "xpc_equal");
    if (one->type != other->type)
        return false;
    if (one->type == XPC_TYPE_BOOL)
        return one->boolean == other->boolean;
    if (one->type == XPC_TYPE_STRING)
        return !strcmp(one->string, other->string);
    if (one->type == XPC_TYPE_UUID)
        return !memcmp(one->uuid, other->uuid, 16);
    if (!is_container(one))
        return one->number == other->number;
    if (one->count != other->count)
        return false;
    for (size_t i = 0; i < one->count; i++) {
        xpc_object_t theirs = one->type == XPC_TYPE_ARRAY ? other->entries[i].value
                                                          : xpc_dictionary_get_value(second, one->entries[i].key);
        if (!theirs || !xpc_equal(one->entries[i].value, theirs))
            return false;
    }
    return true;
}

static void describe(FILE *out, const struct sim_xpc *object, int depth) {
    fprintf(out, "<%s: %p>", object->type->name, (const void *)object);
    if (object->type == XPC_TYPE_BOOL)
        fprintf(out, ": %s", object->boolean ? "true" : "false");
    else if (object->type == XPC_TYPE_INT64)
        fprintf(out, ": %lld", (long long)object->signed_number);
    else if (object->type == XPC_TYPE_UINT64)
        fprintf(out, ": %llu", (unsigned long long)object->number);
    else if (object->type == XPC_TYPE_STRING)
        fprintf(out, " { length = %zu, contents = \"%s\" }", strlen(object->string), object->string);
    else if (object->type == XPC_TYPE_UUID)
        for (int i = 0; i < 16; i++)
            fprintf(out, "%s%02X", i == 0 ? " " : i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", object->uuid[i]);
    if (!is_container(object))
        return;
    fprintf(out, " { count = %zu, contents =\n", object->count);
    for (size_t i = 0; i < object->count; i++) {
        fprintf(out, "%*s", depth + 1, "");
        if (object->entries[i].key)
            fprintf(out, "\"%s\" => ", object->entries[i].key);
        else
            fprintf(out, "%zu: ", i);
        describe(out, object->entries[i].value, depth + 1);
        fputc('\n', out);
    }
    fprintf(out, "%*s}", depth, "");
}

char *xpc_copy_description(xpc_object_t pointer) {
    struct sim_xpc *object = sim_xpc_check(pointer, NULL, "xpc_copy_description");
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        sim_fatal("out of memory");
    describe(out, object, 0);
    fclose(out);
    return text;
}
