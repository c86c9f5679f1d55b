/*
 * xpc/xpc.h: the objects of XPC that vmnet.framework takes and gives.
 *
 * Objects are counted: what a function with `create`, `copy` or `retain` in its name returns belongs to the
 * caller; what a `get` returns is borrowed from the container. Values are copied or retained when they are
 * put into one. A NULL where an object or key belongs, or an object of the wrong kind given to a container
 * function, ends the process: that is misuse, not an error.
 */
#ifndef VMNET_SIM_XPC_H
#define VMNET_SIM_XPC_H

/* What Apple's header brings along, and programs have come to use. */
#include <dispatch/dispatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *xpc_object_t;
struct _xpc_type_s {
    const char *name;
};
typedef const struct _xpc_type_s *xpc_type_t;

extern const struct _xpc_type_s _xpc_type_array, _xpc_type_bool, _xpc_type_dictionary, _xpc_type_error,
    _xpc_type_int64, _xpc_type_null, _xpc_type_string, _xpc_type_uint64, _xpc_type_uuid;
#define XPC_TYPE_ARRAY (&_xpc_type_array)
#define XPC_TYPE_BOOL (&_xpc_type_bool)
#define XPC_TYPE_DICTIONARY (&_xpc_type_dictionary)
#define XPC_TYPE_ERROR (&_xpc_type_error)
#define XPC_TYPE_INT64 (&_xpc_type_int64)
#define XPC_TYPE_NULL (&_xpc_type_null)
#define XPC_TYPE_STRING (&_xpc_type_string)
#define XPC_TYPE_UINT64 (&_xpc_type_uint64)
#define XPC_TYPE_UUID (&_xpc_type_uuid)

xpc_object_t xpc_retain(xpc_object_t object);
void xpc_release(xpc_object_t object);
xpc_type_t xpc_get_type(xpc_object_t object);
const char *xpc_type_get_name(xpc_type_t type);
char *xpc_copy_description(xpc_object_t object); /* free() it */
xpc_object_t xpc_copy(xpc_object_t object);
bool xpc_equal(xpc_object_t one, xpc_object_t other);

/* -- Values; a getter gives 0 or NULL for an object of another type. -- */

xpc_object_t xpc_null_create(void);
xpc_object_t xpc_bool_create(bool value);
bool xpc_bool_get_value(xpc_object_t object);
xpc_object_t xpc_int64_create(int64_t value);
int64_t xpc_int64_get_value(xpc_object_t object);
xpc_object_t xpc_uint64_create(uint64_t value);
uint64_t xpc_uint64_get_value(xpc_object_t object);
xpc_object_t xpc_string_create(const char *string);
const char *xpc_string_get_string_ptr(xpc_object_t object);
size_t xpc_string_get_length(xpc_object_t object);
xpc_object_t xpc_uuid_create(const unsigned char bytes[16]);
const uint8_t *xpc_uuid_get_bytes(xpc_object_t object);

/* -- Arrays; an index past the end ends the process in get_value, and gives 0 or NULL elsewhere. -- */

#define XPC_ARRAY_APPEND ((size_t)-1)
xpc_object_t xpc_array_create(const xpc_object_t *objects, size_t count);
void xpc_array_append_value(xpc_object_t array, xpc_object_t value);
size_t xpc_array_get_count(xpc_object_t array);
xpc_object_t xpc_array_get_value(xpc_object_t array, size_t index);
const char *xpc_array_get_string(xpc_object_t array, size_t index);
uint64_t xpc_array_get_uint64(xpc_object_t array, size_t index);

/* -- Dictionaries; setting a value replaces the one that was there, setting NULL removes it. -- */

xpc_object_t xpc_dictionary_create(const char *const *keys, const xpc_object_t *values, size_t count);
xpc_object_t xpc_dictionary_create_empty(void);
void xpc_dictionary_set_value(xpc_object_t dictionary, const char *key, xpc_object_t value);
void xpc_dictionary_set_bool(xpc_object_t dictionary, const char *key, bool value);
void xpc_dictionary_set_int64(xpc_object_t dictionary, const char *key, int64_t value);
void xpc_dictionary_set_uint64(xpc_object_t dictionary, const char *key, uint64_t value);
void xpc_dictionary_set_string(xpc_object_t dictionary, const char *key, const char *string);
void xpc_dictionary_set_uuid(xpc_object_t dictionary, const char *key, const unsigned char uuid[16]);
xpc_object_t xpc_dictionary_get_value(xpc_object_t dictionary, const char *key);
bool xpc_dictionary_get_bool(xpc_object_t dictionary, const char *key);
int64_t xpc_dictionary_get_int64(xpc_object_t dictionary, const char *key);
uint64_t xpc_dictionary_get_uint64(xpc_object_t dictionary, const char *key);
const char *xpc_dictionary_get_string(xpc_object_t dictionary, const char *key);
const uint8_t *xpc_dictionary_get_uuid(xpc_object_t dictionary, const char *key);
size_t xpc_dictionary_get_count(xpc_object_t dictionary);

#ifdef __BLOCKS__
typedef bool (^xpc_dictionary_applier_t)(const char *key, xpc_object_t value);
typedef bool (^xpc_array_applier_t)(size_t index, xpc_object_t value);
#else
typedef void *xpc_dictionary_applier_t;
typedef void *xpc_array_applier_t;
#endif
/* Calls the block for each entry, in the calling thread, until it gives false; whether it never did. */
bool xpc_dictionary_apply(xpc_object_t dictionary, xpc_dictionary_applier_t applier);
bool xpc_array_apply(xpc_object_t array, xpc_array_applier_t applier);

#ifdef __cplusplus
}
#endif
#endif
