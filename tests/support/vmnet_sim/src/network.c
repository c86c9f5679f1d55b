/*
 * network.c: the network API of macOS 26: configurations, networks that reserve a subnet, CFRetain/CFRelease.
 */
#include "network.h"

#include <CoreFoundation/CoreFoundation.h>
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"
#include "interface.h"
#include "personality.h"
#include "report.h"

#define LIST 12288

struct vmnet_network_configuration {
    struct sim_object object;
    vmnet_mode_t mode;
    bool no_nat44, no_nat66, no_dhcp, no_dns, no_advertisement;
    char external[32];
    struct in_addr subnet, mask;
    struct in6_addr prefix;
    uint8_t prefix_length; /* 0: none was set */
    uint32_t mtu;
    char reservations[LIST], forwards[LIST]; /* as they are sent */
};

struct vmnet_network {
    struct sim_object object;
    unsigned number; /* the fabric's */
    struct in_addr gateway, mask;
    struct in6_addr prefix;
    uint8_t prefix_length;
};

static const char network_number_key[] = "network";

static void tell(vmnet_return_t *where, vmnet_return_t status) {
    if (where)
        *where = status;
}

static struct vmnet_network_configuration *check(vmnet_network_configuration_ref config, const char *where) {
    return (struct vmnet_network_configuration *)sim_object_check(config, SIM_CONFIGURATION, where);
}

/* -- Counting. -- */

CFTypeRef CFRetain(CFTypeRef pointer) {
    sim_object_retain(sim_object_check(pointer, 0, "CFRetain"));
    return pointer;
}

void CFRelease(CFTypeRef pointer) {
    struct sim_object *object = sim_object_check(pointer, 0, "CFRelease");
    if (object->kind == SIM_INTERFACE) {
        /* A peer releases what start_with_network gave, once; nobody does so for the classic call. */
        struct vmnet_interface *interface = (struct vmnet_interface *)object;
        if (!interface->network || interface->released)
            sim_fatal("CFRelease: of an interface that %s",
                      interface->released ? "was released before" : "vmnet_start_interface gave");
        interface->released = true;
        return;
    }
    if (object->kind != SIM_CONFIGURATION && object->kind != SIM_NETWORK)
        sim_fatal("CFRelease: of %s", sim_kind_name(object->kind));
    sim_object_release(object);
}

/* -- Configurations. -- */

vmnet_network_configuration_ref vmnet_network_configuration_create(vmnet_mode_t mode, vmnet_return_t *status) {
    sim_check_process("vmnet_network_configuration_create");
    if (mode != VMNET_SHARED_MODE && mode != VMNET_HOST_MODE) {
        tell(status, VMNET_INVALID_ARGUMENT);
        return NULL;
    }
    struct vmnet_network_configuration *config = sim_object_create(sizeof *config, SIM_CONFIGURATION, NULL);
    config->mode = mode;
    config->mtu = 1500;
    tell(status, VMNET_SUCCESS);
    return config;
}

void vmnet_network_configuration_disable_nat44(vmnet_network_configuration_ref config) {
    check(config, "vmnet_network_configuration_disable_nat44")->no_nat44 = true;
}

void vmnet_network_configuration_disable_nat66(vmnet_network_configuration_ref config) {
    check(config, "vmnet_network_configuration_disable_nat66")->no_nat66 = true;
}

void vmnet_network_configuration_disable_dhcp(vmnet_network_configuration_ref config) {
    check(config, "vmnet_network_configuration_disable_dhcp")->no_dhcp = true;
}

void vmnet_network_configuration_disable_dns_proxy(vmnet_network_configuration_ref config) {
    check(config, "vmnet_network_configuration_disable_dns_proxy")->no_dns = true;
}

void vmnet_network_configuration_disable_router_advertisement(vmnet_network_configuration_ref config) {
    check(config, "vmnet_network_configuration_disable_router_advertisement")->no_advertisement = true;
}

vmnet_return_t vmnet_network_configuration_set_external_interface(vmnet_network_configuration_ref pointer,
                                                                  const char *interface_name) {
    struct vmnet_network_configuration *config = check(pointer, "vmnet_network_configuration_set_external_interface");
    if (!interface_name || strlen(interface_name) >= sizeof config->external || config->mode != VMNET_SHARED_MODE)
        return VMNET_INVALID_ARGUMENT;
    strcpy(config->external, interface_name);
    return VMNET_SUCCESS;
}

vmnet_return_t vmnet_network_configuration_set_ipv4_subnet(vmnet_network_configuration_ref pointer,
                                                           const struct in_addr *subnet_addr,
                                                           const struct in_addr *subnet_mask) {
    struct vmnet_network_configuration *config = check(pointer, "vmnet_network_configuration_set_ipv4_subnet");
    if (!subnet_addr || !subnet_mask)
        return VMNET_INVALID_ARGUMENT;
    uint32_t mask = ntohl(subnet_mask->s_addr);
    /* Ones, then zeros, and room for the three addresses that are reserved and a guest. */
    if ((mask | (mask - 1)) != 0xffffffffu || ~mask < 3)
        return VMNET_INVALID_ARGUMENT;
    config->subnet = *subnet_addr;
    config->mask = *subnet_mask;
    return VMNET_SUCCESS;
}

vmnet_return_t vmnet_network_configuration_set_ipv6_prefix(vmnet_network_configuration_ref pointer,
                                                           const struct in6_addr *prefix, uint8_t length) {
    struct vmnet_network_configuration *config = check(pointer, "vmnet_network_configuration_set_ipv6_prefix");
    if (!prefix || length != 64 || prefix->s6_addr[0] != 0xfd)
        return VMNET_INVALID_ARGUMENT;
    config->prefix = *prefix;
    config->prefix_length = length;
    return VMNET_SUCCESS;
}

vmnet_return_t vmnet_network_configuration_set_mtu(vmnet_network_configuration_ref pointer, uint32_t mtu) {
    struct vmnet_network_configuration *config = check(pointer, "vmnet_network_configuration_set_mtu");
    if (mtu < 576 || mtu > 16384)
        return VMNET_INVALID_ARGUMENT;
    config->mtu = mtu;
    return VMNET_SUCCESS;
}

static vmnet_return_t add_to_list(char *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
static vmnet_return_t add_to_list(char *list, const char *format, ...) {
    size_t length = strlen(list), room = LIST - length - 1;
    va_list arguments;
    va_start(arguments, format);
    if (length)
        list[length++] = ',';
    int added = vsnprintf(list + length, room, format, arguments);
    va_end(arguments);
    if (added >= 0 && (size_t)added < room)
        return VMNET_SUCCESS;
    list[length ? length - 1 : 0] = '\0';
    return VMNET_MEM_FAILURE;
}

vmnet_return_t vmnet_network_configuration_add_dhcp_reservation(vmnet_network_configuration_ref pointer,
                                                                const ether_addr_t *client,
                                                                const struct in_addr *reservation) {
    struct vmnet_network_configuration *config = check(pointer, "vmnet_network_configuration_add_dhcp_reservation");
    if (!client || !reservation)
        return VMNET_INVALID_ARGUMENT;
    const uint8_t *mac = client->ether_addr_octet;
    return add_to_list(config->reservations, "%02x:%02x:%02x:%02x:%02x:%02x/%s", mac[0], mac[1], mac[2], mac[3], mac[4],
                       mac[5], inet_ntoa(*reservation));
}

vmnet_return_t vmnet_network_configuration_add_port_forwarding_rule(vmnet_network_configuration_ref pointer,
                                                                    uint8_t protocol, uint8_t address_family,
                                                                    uint16_t internal_port, uint16_t external_port,
                                                                    const void *internal_address) {
    struct vmnet_network_configuration *config = check(pointer, "vmnet_network_configuration_add_port_forwarding_rule");
    bool v6 = address_family == VMNET_AF_INET6;
    char address[INET6_ADDRSTRLEN];
    if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || (!v6 && address_family != VMNET_AF_INET) ||
        !internal_port || !external_port || !internal_address)
        return VMNET_INVALID_ARGUMENT;
    inet_ntop(v6 ? AF_INET6 : AF_INET, internal_address, address, sizeof address);
    return add_to_list(config->forwards, "%u/%u/%s/%u", protocol, external_port, address, internal_port);
}

/* -- Networks. -- */

static void destroy_network(struct sim_object *object) {
    struct sim_message *message = calloc(1, sizeof *message);
    sim_message_begin(message, "network_release");
    sim_message_add_number(message, "network", ((struct vmnet_network *)object)->number);
    sim_fabric_ask(message);
    free(message);
}

static void describe(const struct vmnet_network_configuration *config, struct sim_message *message) {
    char text[INET6_ADDRSTRLEN];
    sim_message_begin(message, "network_create");
    sim_message_add_number(message, "mode", config->mode);
    sim_message_add_number(message, "mtu", config->mtu);
    sim_message_add_number(message, "no_nat44", config->no_nat44);
    sim_message_add_number(message, "no_nat66", config->no_nat66);
    sim_message_add_number(message, "no_dhcp", config->no_dhcp);
    sim_message_add_number(message, "no_dns", config->no_dns);
    sim_message_add_number(message, "no_advertisement", config->no_advertisement);
    sim_message_add_number(message, "subnet_zero_fails", sim_fault_set(SIM_FAULT_subnet_zero_fails));
    sim_message_add_number(message, "orphan", sim_fault_set(SIM_FAULT_orphan_network));
    if (*config->external)
        sim_message_add(message, "external", config->external);
    if (config->mask.s_addr) {
        sim_message_add(message, "subnet", inet_ntoa(config->subnet));
        sim_message_add(message, "mask", inet_ntoa(config->mask));
    }
    if (config->prefix_length)
        sim_message_add(message, "prefix", inet_ntop(AF_INET6, &config->prefix, text, sizeof text));
    if (*config->reservations)
        sim_message_add(message, "reservations", config->reservations);
    if (*config->forwards)
        sim_message_add(message, "forwards", config->forwards);
}

static struct vmnet_network *from_answer(const struct sim_message *answer) {
    struct vmnet_network *network = sim_object_create(sizeof *network, SIM_NETWORK, destroy_network);
    char text[INET6_ADDRSTRLEN];
    network->number = (unsigned)sim_message_get_number(answer, "network");
    if (sim_message_get(answer, "gateway", text, sizeof text))
        inet_pton(AF_INET, text, &network->gateway);
    if (sim_message_get(answer, "mask", text, sizeof text))
        inet_pton(AF_INET, text, &network->mask);
    if (sim_message_get(answer, "prefix", text, sizeof text) && inet_pton(AF_INET6, text, &network->prefix) == 1)
        network->prefix_length = 64;
    return network;
}

static struct vmnet_network *ask(struct sim_message *message, vmnet_return_t *status) {
    vmnet_return_t answer = sim_fabric_ask(message);
    struct vmnet_network *network = answer == VMNET_SUCCESS ? from_answer(message) : NULL;
    tell(status, answer);
    free(message);
    return network;
}

vmnet_network_ref vmnet_network_create(vmnet_network_configuration_ref pointer, vmnet_return_t *status) {
    static const char where[] = "vmnet_network_create";
    sim_check_process(where);
    struct vmnet_network_configuration *config = check(pointer, where);
    while (sim_fault_set(SIM_FAULT_network_hang))
        pause();
    vmnet_return_t failure = VMNET_SUCCESS;
    if (sim_fault_set(SIM_FAULT_network_status))
        failure = sim_fault_value(SIM_FAULT_network_status);
    else if (geteuid() != 0 && sim_fault_set(SIM_FAULT_not_entitled))
        failure = VMNET_MEM_FAILURE; /* not 1010, as one would expect */
    if (failure != VMNET_SUCCESS) {
        tell(status, failure);
        return NULL;
    }
    struct sim_message *message = calloc(1, sizeof *message);
    describe(config, message);
    return ask(message, status);
}

void vmnet_network_get_ipv4_subnet(vmnet_network_ref pointer, struct in_addr *subnet, struct in_addr *mask) {
    struct vmnet_network *network =
        (struct vmnet_network *)sim_object_check(pointer, SIM_NETWORK, "vmnet_network_get_ipv4_subnet");
    *subnet = network->gateway; /* the host's address, as macOS 27 was seen to report */
    *mask = network->mask;
}

void vmnet_network_get_ipv6_prefix(vmnet_network_ref pointer, struct in6_addr *prefix, uint8_t *prefix_len) {
    struct vmnet_network *network =
        (struct vmnet_network *)sim_object_check(pointer, SIM_NETWORK, "vmnet_network_get_ipv6_prefix");
    *prefix = network->prefix;
    *prefix_len = network->prefix_length;
}

xpc_object_t vmnet_network_copy_serialization(vmnet_network_ref pointer, vmnet_return_t *status) {
    struct vmnet_network *network =
        (struct vmnet_network *)sim_object_check(pointer, SIM_NETWORK, "vmnet_network_copy_serialization");
    xpc_object_t serialized = xpc_dictionary_create_empty();
    xpc_dictionary_set_uint64(serialized, network_number_key, network->number);
    tell(status, VMNET_SUCCESS);
    return serialized;
}

vmnet_network_ref vmnet_network_create_with_serialization(xpc_object_t serialized, vmnet_return_t *status) {
    sim_check_process("vmnet_network_create_with_serialization");
    struct sim_message *message = calloc(1, sizeof *message);
    sim_message_begin(message, "network_join");
    sim_message_add_number(message, "network", xpc_dictionary_get_uint64(serialized, network_number_key));
    return ask(message, status);
}

/* -- Interfaces on a network. -- */

void sim_network_add(struct vmnet_network *network, struct sim_message *message) {
    sim_message_add_number(message, "network", network->number);
}

interface_ref vmnet_interface_start_with_network(vmnet_network_ref network, xpc_object_t interface_desc,
                                                 dispatch_queue_t queue,
                                                 vmnet_start_interface_completion_handler_t start_block) {
    static const char where[] = "vmnet_interface_start_with_network";
    sim_object_check(network, SIM_NETWORK, where);
    return sim_interface_start(network, interface_desc, queue, start_block, where);
}
