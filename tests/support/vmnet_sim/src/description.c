/* description.c: the dictionary that describes an interface: types, rules between keys, and the request it makes. */
#include <string.h>

#include "fabric_client.h"
#include "interface.h"
#include "keys.h"
#include "report.h"
#include "xpc_internal.h"

/* What the simulated machine can do; Apple names no limits. */
#define MTU_SMALLEST 576
#define MTU_LARGEST 16384
#define MTU_DEFAULT 1500

static void add_value(struct sim_message *message, const struct sim_key *key, xpc_object_t value) {
    const char *name = *key->symbol + strlen("vmnet_");
    if (key->type == XPC_TYPE_STRING)
        sim_message_add(message, name, xpc_string_get_string_ptr(value));
    else if (key->type == XPC_TYPE_UUID)
        sim_message_add_uuid(message, name, xpc_uuid_get_bytes(value));
    else if (key->type == XPC_TYPE_BOOL)
        sim_message_add_number(message, name, xpc_bool_get_value(value));
    else
        sim_message_add_number(message, name, xpc_uint64_get_value(value));
}

static vmnet_return_t read_values(struct sim_message *message, const struct sim_xpc *dictionary, bool with_network) {
    for (size_t i = 0; i < dictionary->count; i++) {
        const struct sim_entry *entry = &dictionary->entries[i];
        const struct sim_key *key = sim_key_find(entry->key);
        if (!key || !key->in_description) {
            sim_violation("a start with the key \"%s\", which %s", entry->key,
                          key ? "is for results" : "this macOS does not have");
            continue;
        }
        if (((struct sim_xpc *)entry->value)->type != key->type) {
            sim_violation("a start with \"%s\" of type %s, not %s", entry->key,
                          ((struct sim_xpc *)entry->value)->type->name, key->type->name);
            return VMNET_INVALID_ARGUMENT;
        }
        if (with_network && !key->with_network) {
            sim_violation("a start on a network with the key \"%s\", which belongs to the network", entry->key);
            return VMNET_INVALID_ARGUMENT;
        }
        add_value(message, key, entry->value);
    }
    return VMNET_SUCCESS;
}

static bool has(xpc_object_t description, const char *key) {
    return xpc_dictionary_get_value(description, key) != NULL;
}

/* The rules of the header, in its order. */
static vmnet_return_t check_rules(xpc_object_t description) {
    uint64_t mode = xpc_dictionary_get_uint64(description, vmnet_operation_mode_key);
    bool bridged = mode == VMNET_BRIDGED_MODE, host = mode == VMNET_HOST_MODE, shared = mode == VMNET_SHARED_MODE;
    bool identifier = has(description, vmnet_network_identifier_key);
    int addresses = has(description, vmnet_start_address_key) + has(description, vmnet_end_address_key) +
                    has(description, vmnet_subnet_mask_key);
    bool ok = bridged || host || shared;
    ok = ok && (addresses == 0 || (addresses == 3 && !bridged && !identifier));
    ok = ok && !(bridged && has(description, vmnet_mtu_key));
    ok = ok && bridged == has(description, vmnet_shared_interface_name_key);
    ok = ok && (shared || !has(description, vmnet_nat66_prefix_key));
    ok = ok && (host || !identifier);
    ok = ok && (identifier || !has(description, vmnet_host_ip_address_key));
    ok = ok && (identifier || !has(description, vmnet_host_ipv6_address_key));
    ok = ok && (has(description, vmnet_host_ip_address_key) || !has(description, vmnet_host_subnet_mask_key));
    return ok ? VMNET_SUCCESS : VMNET_INVALID_ARGUMENT;
}

vmnet_return_t sim_description_read(struct vmnet_interface *interface, xpc_object_t description,
                                    struct sim_message *message, bool with_network) {
    struct sim_xpc *dictionary = sim_xpc_check(description, XPC_TYPE_DICTIONARY, "a start");
    sim_message_begin(message, "start");
    vmnet_return_t status = read_values(message, dictionary, with_network);
    if (status == VMNET_SUCCESS && !with_network)
        status = check_rules(description);
    if (status != VMNET_SUCCESS)
        return status;
    interface->mtu = MTU_DEFAULT;
    if (has(description, vmnet_mtu_key)) {
        uint64_t mtu = xpc_dictionary_get_uint64(description, vmnet_mtu_key);
        if (mtu < MTU_SMALLEST || mtu > MTU_LARGEST)
            return VMNET_INVALID_ARGUMENT;
        interface->mtu = (unsigned)mtu;
    }
    interface->tso = xpc_dictionary_get_bool(description, vmnet_enable_tso_key);
    interface->checksum = xpc_dictionary_get_bool(description, vmnet_enable_checksum_offload_key);
    interface->virtio = xpc_dictionary_get_bool(description, vmnet_enable_virtio_header_key);
    interface->hidden_header = !interface->virtio && (interface->tso || interface->checksum);
    return interface->virtio && interface->checksum ? VMNET_INVALID_ARGUMENT : VMNET_SUCCESS;
}
