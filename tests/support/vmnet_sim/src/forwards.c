/*
 * forwards.c: port forwarding of an interface's network. The calls take no queue; handlers run on a global
 * one, never in the calling thread.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "dispatch_internal.h"
#include "fabric_client.h"
#include "faults.h"
#include "interface.h"
#include "personality.h"
#include "report.h"

/* One call on its way; the answer is in the message. */
struct call {
    void *handler; /* NULL: nobody wants to know */
    bool wants_rules;
    uint8_t family;
    struct sim_message message;
};

static xpc_object_t rule_from(const char *text, uint8_t family) {
    unsigned protocol, external, internal;
    char address[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    if (sscanf(text, "%u/%u/%45[^/]/%u", &protocol, &external, address, &internal) != 4 ||
        inet_pton(family == VMNET_AF_INET6 ? AF_INET6 : AF_INET, address, bytes) != 1)
        return NULL;
    xpc_object_t rule = xpc_dictionary_create_empty();
    ((struct sim_object *)rule)->ours = true;
    xpc_dictionary_set_uint64(rule, "protocol", protocol);
    xpc_dictionary_set_uint64(rule, "external", external);
    xpc_dictionary_set_uint64(rule, "internal", internal);
    xpc_dictionary_set_string(rule, "address", address);
    return rule;
}

static xpc_object_t rules_from(const struct sim_message *answer, uint8_t family) {
    char *list = calloc(1, SIM_MESSAGE), *rest = list;
    xpc_object_t rules = NULL;
    if (sim_message_get(answer, "rules", list, SIM_MESSAGE))
        for (char *text = strtok_r(rest, ",", &rest); text; text = strtok_r(NULL, ",", &rest)) {
            xpc_object_t rule = rule_from(text, family);
            if (!rule)
                continue;
            if (!rules) {
                rules = xpc_array_create(NULL, 0);
                ((struct sim_object *)rules)->ours = true;
            }
            xpc_array_append_value(rules, rule);
            xpc_release(rule);
        }
    free(list);
    return rules;
}

static void carry_out(void *pointer) {
    struct call *call = pointer;
    vmnet_return_t status = sim_fabric_ask(&call->message);
    if (sim_fault_set(SIM_FAULT_forward_status))
        status = sim_fault_value(SIM_FAULT_forward_status);
    if (call->handler && call->wants_rules && !sim_fault_set(SIM_FAULT_forward_lost)) {
        /* No rules: NULL. */
        xpc_object_t rules = status == VMNET_SUCCESS ? rules_from(&call->message, call->family) : NULL;
        SIM_INVOKE(call->handler, void (*)(void *, xpc_object_t))(call->handler, rules);
        if (rules)
            xpc_release(rules);
    } else if (call->handler && !sim_fault_set(SIM_FAULT_forward_lost)) {
        SIM_INVOKE(call->handler, void (*)(void *, vmnet_return_t))(call->handler, status);
    }
    sim_block_drop(call->handler);
    free(call);
}

/* A call for a running interface whose protocol and family are known; else NULL and the status to return. */
static struct call *begin(interface_ref handle, const char *verb, uint8_t protocol, uint8_t family, void *handler,
                          const char *where, vmnet_return_t *status) {
    sim_check_process(where);
    struct vmnet_interface *interface = sim_interface_running(handle, where, status);
    if (!interface)
        return NULL;
    *status = VMNET_INVALID_ARGUMENT;
    if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || (family != VMNET_AF_INET && family != VMNET_AF_INET6))
        return NULL;
    if (interface->network && sim_fault_set(SIM_FAULT_forward_refused_on_networks)) {
        *status = VMNET_FAILURE; /* and the handler is never called, as on macOS 27.0 */
        return NULL;
    }
    *status = VMNET_SUCCESS;
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        sim_fatal("out of memory");
    call->handler = handler ? sim_block_keep(handler, where) : NULL;
    call->family = family;
    sim_message_begin(&call->message, verb);
    sim_message_add_number(&call->message, "interface", interface->number);
    sim_message_add_number(&call->message, "family", family == VMNET_AF_INET6 ? 6 : 4);
    return call;
}

static vmnet_return_t send_off(struct call *call) {
    dispatch_async_f(dispatch_get_global_queue(0, 0), call, carry_out);
    return VMNET_SUCCESS;
}

vmnet_return_t vmnet_interface_add_ip_port_forwarding_rule(interface_ref interface, uint8_t protocol,
                                                           uint16_t external_port, uint8_t address_family,
                                                           const void *internal_address, uint16_t internal_port,
                                                           vmnet_interface_completion_handler_t handler) {
    vmnet_return_t status;
    char address[INET6_ADDRSTRLEN];
    if (!external_port || !internal_port || !internal_address)
        return VMNET_INVALID_ARGUMENT;
    struct call *call = begin(interface, "forward_add", protocol, address_family, handler,
                              "vmnet_interface_add_ip_port_forwarding_rule", &status);
    if (!call)
        return status;
    inet_ntop(address_family == VMNET_AF_INET6 ? AF_INET6 : AF_INET, internal_address, address, sizeof address);
    sim_message_add_number(&call->message, "protocol", protocol);
    sim_message_add_number(&call->message, "external", external_port);
    sim_message_add_number(&call->message, "internal", internal_port);
    sim_message_add(&call->message, "address", address);
    return send_off(call);
}

vmnet_return_t vmnet_interface_remove_ip_port_forwarding_rule(interface_ref interface, uint8_t protocol,
                                                              uint16_t external_port, uint8_t address_family,
                                                              vmnet_interface_completion_handler_t handler) {
    vmnet_return_t status;
    struct call *call = begin(interface, "forward_remove", protocol, address_family, handler,
                              "vmnet_interface_remove_ip_port_forwarding_rule", &status);
    if (!call)
        return status;
    sim_message_add_number(&call->message, "protocol", protocol);
    sim_message_add_number(&call->message, "external", external_port);
    return send_off(call);
}

vmnet_return_t
vmnet_interface_get_ip_port_forwarding_rules(interface_ref interface, uint8_t address_family,
                                             vmnet_interface_get_ip_port_forwarding_rules_handler_t handler) {
    vmnet_return_t status;
    struct call *call = begin(interface, "forward_list", IPPROTO_TCP, address_family, handler,
                              "vmnet_interface_get_ip_port_forwarding_rules", &status);
    if (!call)
        return status;
    call->wants_rules = true;
    return send_off(call);
}

vmnet_return_t vmnet_ip_port_forwarding_rule_get_details(xpc_object_t rule, uint8_t *protocol, uint16_t *external_port,
                                                         uint8_t address_family, void *internal_address,
                                                         uint16_t *internal_port) {
    const char *address = xpc_dictionary_get_string(rule, "address");
    int family = address_family == VMNET_AF_INET6 ? AF_INET6 : AF_INET;
    if (!address || !protocol || !external_port || !internal_address || !internal_port ||
        inet_pton(family, address, internal_address) != 1)
        return VMNET_INVALID_ARGUMENT;
    *protocol = (uint8_t)xpc_dictionary_get_uint64(rule, "protocol");
    *external_port = (uint16_t)xpc_dictionary_get_uint64(rule, "external");
    *internal_port = (uint16_t)xpc_dictionary_get_uint64(rule, "internal");
    return VMNET_SUCCESS;
}

/* -- The older calls, for IPv4. -- */

vmnet_return_t vmnet_interface_add_port_forwarding_rule(interface_ref interface, uint8_t protocol, uint16_t external_port,
                                                        struct in_addr internal_address, uint16_t internal_port,
                                                        vmnet_interface_completion_handler_t handler) {
    return vmnet_interface_add_ip_port_forwarding_rule(interface, protocol, external_port, VMNET_AF_INET,
                                                       &internal_address, internal_port, handler);
}

vmnet_return_t vmnet_interface_remove_port_forwarding_rule(interface_ref interface, uint8_t protocol,
                                                           uint16_t external_port,
                                                           vmnet_interface_completion_handler_t handler) {
    return vmnet_interface_remove_ip_port_forwarding_rule(interface, protocol, external_port, VMNET_AF_INET, handler);
}

vmnet_return_t
vmnet_interface_get_port_forwarding_rules(interface_ref interface,
                                          vmnet_interface_get_port_forwarding_rules_handler_t handler) {
    return vmnet_interface_get_ip_port_forwarding_rules(interface, VMNET_AF_INET, handler);
}

vmnet_return_t vmnet_port_forwarding_rule_get_details(xpc_object_t rule, uint8_t *protocol, uint16_t *external_port,
                                                      struct in_addr *internal_address, uint16_t *internal_port) {
    return vmnet_ip_port_forwarding_rule_get_details(rule, protocol, external_port, VMNET_AF_INET, internal_address,
                                                     internal_port);
}
