/*
 * networks.c: the network API of macOS 26 and port forwarding, call by call, as lines on standard input ask.
 *
 *     configure shared|host|bridged     STATUS
 *     disable nat44|nat66|dhcp|dns_proxy|router_advertisement
 *     subnet ADDRESS MASK               STATUS
 *     prefix ADDRESS LENGTH             STATUS
 *     mtu NUMBER                        STATUS
 *     external NAME                     STATUS
 *     reserve MAC ADDRESS               STATUS
 *     preset PROTOCOL INTERNAL EXTERNAL ADDRESS     STATUS: a forward of the configuration
 *     create                            STATUS [GATEWAY MASK PREFIX LENGTH]
 *     copy                              as create: the network by way of its serialization
 *     release                           the network
 *     start [tso]                       STATUS MAC
 *     classic                           STATUS MAC: a shared interface without a network
 *     stop                              STATUS
 *     forward PROTOCOL EXTERNAL ADDRESS INTERNAL    the call's result and the handler's status, or LOST
 *     unforward PROTOCOL EXTERNAL FAMILY            the same
 *     rules FAMILY                      the call's result and PROTOCOL/EXTERNAL/ADDRESS/INTERNAL… or NULL or LOST
 */
#include <CoreFoundation/CoreFoundation.h>
#include <arpa/inet.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmnet/vmnet.h>

#define PATIENCE (2 * (int64_t)NSEC_PER_SEC)
/* For a handler that must not be called. */
#define A_MOMENT (100 * (int64_t)NSEC_PER_MSEC)

static vmnet_network_configuration_ref config;
static vmnet_network_ref network;
static interface_ref interface;
static dispatch_queue_t queue;
static dispatch_semaphore_t done;

static struct in_addr v4(const char *text) {
    struct in_addr address = {0};
    inet_pton(AF_INET, text, &address);
    return address;
}

/* Address of either family; the framework's number of the family, which is Darwin's. */
static uint8_t parse(const char *text, struct in6_addr *out) {
    if (inet_pton(AF_INET6, text, out) == 1)
        return VMNET_AF_INET6;
    inet_pton(AF_INET, text, out);
    return VMNET_AF_INET;
}

static bool called_within(int64_t nanoseconds) {
    return dispatch_semaphore_wait(done, dispatch_time(DISPATCH_TIME_NOW, nanoseconds)) == 0;
}

static bool called(void) {
    return called_within(PATIENCE);
}

static bool called_after(vmnet_return_t returned) {
    return called_within(returned == VMNET_SUCCESS ? PATIENCE : A_MOMENT);
}

static void disable(const char *what) {
    if (!strcmp(what, "nat44"))
        vmnet_network_configuration_disable_nat44(config);
    if (!strcmp(what, "nat66"))
        vmnet_network_configuration_disable_nat66(config);
    if (!strcmp(what, "dhcp"))
        vmnet_network_configuration_disable_dhcp(config);
    if (!strcmp(what, "dns_proxy"))
        vmnet_network_configuration_disable_dns_proxy(config);
    if (!strcmp(what, "router_advertisement"))
        vmnet_network_configuration_disable_router_advertisement(config);
    puts("ok");
}

static vmnet_return_t configure(const char *mode) {
    vmnet_return_t status;
    if (config)
        CFRelease(config);
    vmnet_mode_t number = !strcmp(mode, "shared") ? VMNET_SHARED_MODE
                          : !strcmp(mode, "host") ? VMNET_HOST_MODE
                                                  : VMNET_BRIDGED_MODE;
    config = vmnet_network_configuration_create(number, &status);
    return status;
}

static vmnet_return_t change(char **words) {
    struct in6_addr address;
    struct in_addr one, other;
    if (!strcmp(words[0], "subnet")) {
        one = v4(words[1]);
        other = v4(words[2]);
        return vmnet_network_configuration_set_ipv4_subnet(config, &one, &other);
    }
    if (!strcmp(words[0], "prefix")) {
        inet_pton(AF_INET6, words[1], &address);
        return vmnet_network_configuration_set_ipv6_prefix(config, &address, (uint8_t)atoi(words[2]));
    }
    if (!strcmp(words[0], "mtu"))
        return vmnet_network_configuration_set_mtu(config, (uint32_t)atoi(words[1]));
    if (!strcmp(words[0], "external"))
        return vmnet_network_configuration_set_external_interface(config, words[1]);
    if (!strcmp(words[0], "reserve")) {
        one = v4(words[2]);
        return vmnet_network_configuration_add_dhcp_reservation(config, ether_aton(words[1]), &one);
    }
    uint8_t family = parse(words[4], &address);
    return vmnet_network_configuration_add_port_forwarding_rule(config, (uint8_t)atoi(words[1]), family,
                                                                (uint16_t)atoi(words[2]), (uint16_t)atoi(words[3]),
                                                                &address);
}

static void show_network(vmnet_return_t status) {
    printf("%u", status);
    if (network) {
        struct in_addr gateway, mask;
        struct in6_addr prefix;
        uint8_t length;
        char text[INET6_ADDRSTRLEN];
        vmnet_network_get_ipv4_subnet(network, &gateway, &mask);
        vmnet_network_get_ipv6_prefix(network, &prefix, &length);
        printf(" %s", inet_ntoa(gateway));
        printf(" %s", inet_ntoa(mask));
        printf(" %s %u", inet_ntop(AF_INET6, &prefix, text, sizeof text), length);
    }
    putchar('\n');
}

static void create(void) {
    vmnet_return_t status;
    network = vmnet_network_create(config, &status);
    show_network(status);
}

static void copy(void) {
    vmnet_return_t status;
    xpc_object_t serialized = vmnet_network_copy_serialization(network, &status);
    vmnet_network_ref again = vmnet_network_create_with_serialization(serialized, &status);
    xpc_release(serialized);
    CFRelease(network);
    network = again;
    show_network(status);
}

static void start(bool on_network, bool tso) {
    xpc_object_t description = xpc_dictionary_create_empty();
    __block vmnet_return_t result = 0;
    static char mac[32];
    strcpy(mac, "-");
    vmnet_start_interface_completion_handler_t handler = ^(vmnet_return_t status, xpc_object_t facts) {
        result = status;
        if (facts)
            snprintf(mac, sizeof mac, "%s", xpc_dictionary_get_string(facts, vmnet_mac_address_key));
        dispatch_semaphore_signal(done);
    };
    if (tso)
        xpc_dictionary_set_bool(description, vmnet_enable_tso_key, true);
    if (on_network) {
        interface = vmnet_interface_start_with_network(network, description, queue, handler);
    } else {
        xpc_dictionary_set_uint64(description, vmnet_operation_mode_key, VMNET_SHARED_MODE);
        interface = vmnet_start_interface(description, queue, handler);
    }
    xpc_release(description);
    if (!interface || !called())
        puts("LOST");
    else
        printf("%u %s\n", result, mac);
}

static void stop(void) {
    __block vmnet_return_t result = 0;
    vmnet_stop_interface(interface, queue, ^(vmnet_return_t status) {
        result = status;
        dispatch_semaphore_signal(done);
    });
    printf("%u\n", called() ? result : 0);
}

static void forward(char **words, bool add) {
    __block vmnet_return_t result = 0;
    struct in6_addr address;
    vmnet_interface_completion_handler_t handler = ^(vmnet_return_t status) {
        result = status;
        dispatch_semaphore_signal(done);
    };
    uint8_t protocol = (uint8_t)atoi(words[1]);
    uint16_t external = (uint16_t)atoi(words[2]);
    vmnet_return_t returned;
    if (add) {
        uint8_t family = parse(words[3], &address);
        returned = vmnet_interface_add_ip_port_forwarding_rule(interface, protocol, external, family, &address,
                                                               (uint16_t)atoi(words[4]), handler);
    } else {
        returned = vmnet_interface_remove_ip_port_forwarding_rule(interface, protocol, external,
                                                                  (uint8_t)atoi(words[3]), handler);
    }
    printf("%u ", returned);
    if (called_after(returned))
        printf("%u\n", result);
    else
        puts("LOST");
}

static void rules(uint8_t family) {
    static char text[4096];
    strcpy(text, "NULL");
    vmnet_return_t returned = vmnet_interface_get_ip_port_forwarding_rules(interface, family, ^(xpc_object_t list) {
        if (list) {
            *text = '\0';
            xpc_array_apply(list, ^bool(size_t index, xpc_object_t rule) {
                uint8_t protocol;
                uint16_t external, internal;
                struct in6_addr address;
                char readable[INET6_ADDRSTRLEN];
                (void)index;
                if (vmnet_ip_port_forwarding_rule_get_details(rule, &protocol, &external, family, &address,
                                                              &internal) != VMNET_SUCCESS)
                    return false;
                inet_ntop(family == VMNET_AF_INET6 ? AF_INET6 : AF_INET, &address, readable, sizeof readable);
                size_t length = strlen(text);
                snprintf(text + length, sizeof text - length, "%s%u/%u/%s/%u", length ? " " : "", protocol, external,
                         readable, internal);
                return true;
            });
        }
        dispatch_semaphore_signal(done);
    });
    printf("%u %s\n", returned, called_after(returned) ? text : "LOST");
}

int main(void) {
    char line[512];
    setvbuf(stdout, NULL, _IOLBF, 0);
    queue = dispatch_queue_create("networks", DISPATCH_QUEUE_SERIAL);
    done = dispatch_semaphore_create(0);
    while (fgets(line, sizeof line, stdin)) {
        char *words[6] = {0}, *rest = line;
        for (int i = 0; i < 6; i++)
            words[i] = strtok_r(rest, " \n", &rest);
        if (!strcmp(words[0], "configure"))
            printf("%u\n", configure(words[1]));
        else if (!strcmp(words[0], "disable"))
            disable(words[1]);
        else if (!strcmp(words[0], "create"))
            create();
        else if (!strcmp(words[0], "copy"))
            copy();
        else if (!strcmp(words[0], "release"))
            CFRelease(network), puts("ok");
        else if (!strcmp(words[0], "start"))
            start(true, words[1] != NULL);
        else if (!strcmp(words[0], "classic"))
            start(false, false);
        else if (!strcmp(words[0], "stop"))
            stop();
        else if (!strcmp(words[0], "forward") || !strcmp(words[0], "unforward"))
            forward(words, words[0][0] == 'f');
        else if (!strcmp(words[0], "rules"))
            rules((uint8_t)atoi(words[1]));
        else
            printf("%u\n", change(words));
    }
    if (config)
        CFRelease(config);
    dispatch_release(done);
    dispatch_release(queue);
    return 0;
}
