/* uuid/uuid.h: UUIDs as libSystem offers them; text is 36 characters and upper case. */
#ifndef VMNET_SIM_UUID_H
#define VMNET_SIM_UUID_H

#ifdef __cplusplus
extern "C" {
#endif

typedef unsigned char uuid_t[16];
typedef char uuid_string_t[37];

void uuid_clear(uuid_t out);
void uuid_copy(uuid_t out, const uuid_t in);
int uuid_compare(const uuid_t one, const uuid_t other);
void uuid_generate(uuid_t out);
void uuid_generate_random(uuid_t out);
int uuid_is_null(const uuid_t uuid);
int uuid_parse(const char *text, uuid_t out); /* 0, or -1 when it is no UUID */
void uuid_unparse(const uuid_t uuid, char *out);
void uuid_unparse_lower(const uuid_t uuid, char *out);
void uuid_unparse_upper(const uuid_t uuid, char *out);

#ifdef __cplusplus
}
#endif
#endif
