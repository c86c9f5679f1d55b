/* keys.c: the data symbols of the keys, and a table of them. */
#include "keys.h"

#include <string.h>

#include "personality.h"

const char *const vmnet_operation_mode_key = "vmnet_operation_mode";
const char *const vmnet_interface_id_key = "vmnet_interface_id";
const char *const vmnet_mac_address_key = "vmnet_mac_address";
const char *const vmnet_allocate_mac_address_key = "vmnet_allocate_mac_address";
const char *const vmnet_mtu_key = "vmnet_mtu";
const char *const vmnet_max_packet_size_key = "vmnet_max_packet_size";
const char *const vmnet_read_max_packets_key = "vmnet_read_max_packets";
const char *const vmnet_write_max_packets_key = "vmnet_write_max_packets";
const char *const vmnet_start_address_key = "vmnet_start_address";
const char *const vmnet_end_address_key = "vmnet_end_address";
const char *const vmnet_subnet_mask_key = "vmnet_subnet_mask";
const char *const vmnet_nat66_prefix_key = "vmnet_nat66_prefix";
const char *const vmnet_nat66_prefix_length_key = "vmnet_nat66_prefix_length";
const char *const vmnet_shared_interface_name_key = "vmnet_shared_interface_name";
const char *const vmnet_network_identifier_key = "vmnet_network_identifier";
const char *const vmnet_host_ip_address_key = "vmnet_host_ip_address";
const char *const vmnet_host_subnet_mask_key = "vmnet_host_subnet_mask";
const char *const vmnet_host_ipv6_address_key = "vmnet_host_ipv6_address";
const char *const vmnet_enable_isolation_key = "vmnet_enable_isolation";
const char *const vmnet_enable_tso_key = "vmnet_enable_tso";
const char *const vmnet_enable_checksum_offload_key = "vmnet_enable_checksum_offload";
const char *const vmnet_enable_virtio_header_key = "vmnet_enable_virtio_header";
const char *const vmnet_estimated_packets_available_key = "vmnet_estimated_packets_available";

static const struct sim_key keys[] = {
    {&vmnet_operation_mode_key, &_xpc_type_uint64, true, false, 1010},
    {&vmnet_interface_id_key, &_xpc_type_uuid, true, false, 1010},
    {&vmnet_mac_address_key, &_xpc_type_string, false, false, 1010},
    {&vmnet_allocate_mac_address_key, &_xpc_type_bool, true, true, 1015},
    {&vmnet_mtu_key, &_xpc_type_uint64, true, false, 1010},
    {&vmnet_max_packet_size_key, &_xpc_type_uint64, false, false, 1010},
    {&vmnet_read_max_packets_key, &_xpc_type_uint64, false, false, 1500},
    {&vmnet_write_max_packets_key, &_xpc_type_uint64, false, false, 1500},
    {&vmnet_start_address_key, &_xpc_type_string, true, false, 1015},
    {&vmnet_end_address_key, &_xpc_type_string, true, false, 1015},
    {&vmnet_subnet_mask_key, &_xpc_type_string, true, false, 1015},
    {&vmnet_nat66_prefix_key, &_xpc_type_string, true, false, 1015},
    {&vmnet_nat66_prefix_length_key, &_xpc_type_uint64, true, false, 1015},
    {&vmnet_shared_interface_name_key, &_xpc_type_string, true, false, 1015},
    {&vmnet_network_identifier_key, &_xpc_type_uuid, true, false, 1100},
    {&vmnet_host_ip_address_key, &_xpc_type_string, true, false, 1100},
    {&vmnet_host_subnet_mask_key, &_xpc_type_string, true, false, 1100},
    {&vmnet_host_ipv6_address_key, &_xpc_type_string, true, false, 1100},
    {&vmnet_enable_isolation_key, &_xpc_type_bool, true, true, 1100},
    {&vmnet_enable_tso_key, &_xpc_type_bool, true, true, 1100},
    {&vmnet_enable_checksum_offload_key, &_xpc_type_bool, true, true, 1200},
    {&vmnet_enable_virtio_header_key, &_xpc_type_bool, true, true, 1504},
    {&vmnet_estimated_packets_available_key, &_xpc_type_uint64, false, false, 1010},
};

const struct sim_key *sim_key_find(const char *text) {
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(*keys[i].symbol, text))
            return keys[i].since <= sim_macos() ? &keys[i] : NULL;
    return NULL;
}
