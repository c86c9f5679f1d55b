/* checks.c: what a client passes to vmnet_read and vmnet_write, held against the contract. */
#include "interface.h"
#include "report.h"

/* The header of an Ethernet frame, without which nothing is one. */
#define SHORTEST_FRAME 14
#define VIRTIO_HEADER 12

static vmnet_return_t check_one(const struct vmnet_interface *interface, const struct vmpktdesc *packet, int index,
                                bool writing) {
    const char *call = writing ? "vmnet_write" : "vmnet_read";
    if (packet->vm_pkt_iovcnt != 1) {
        sim_violation("%s: packet %d has vm_pkt_iovcnt %u, not 1", call, index, packet->vm_pkt_iovcnt);
        return VMNET_INVALID_ARGUMENT;
    }
    if (!packet->vm_pkt_iov || !packet->vm_pkt_iov->iov_base) {
        sim_violation("%s: packet %d has no buffer", call, index);
        return VMNET_INVALID_ARGUMENT;
    }
    if (packet->vm_flags != 0)
        sim_violation("%s: packet %d has vm_flags %#x, not 0", call, index, packet->vm_flags);
    size_t size = packet->vm_pkt_size, room = packet->vm_pkt_iov->iov_len;
    if (!writing) {
        if (size < interface->max_packet)
            sim_violation("vmnet_read: packet %d has vm_pkt_size %zu, less than the %zu of the largest packet: not set"
                          " again after the last read?",
                          index, size, interface->max_packet);
        if (room < size) {
            sim_violation("vmnet_read: packet %d has iov_len %zu, less than its vm_pkt_size %zu", index, room, size);
            return VMNET_INVALID_ARGUMENT;
        }
        return VMNET_SUCCESS;
    }
    if (room != size) {
        sim_violation("vmnet_write: packet %d has iov_len %zu and vm_pkt_size %zu", index, room, size);
        return VMNET_INVALID_ARGUMENT;
    }
    /* These two are a guest's doing, and no misuse. */
    if (size < SHORTEST_FRAME + (interface->virtio ? VIRTIO_HEADER : 0u))
        return VMNET_INVALID_ARGUMENT;
    return size > interface->max_packet ? VMNET_PACKET_TOO_BIG : VMNET_SUCCESS;
}

vmnet_return_t sim_check_packets(const struct vmnet_interface *interface, const struct vmpktdesc *packets,
                                 const int *count, bool writing) {
    const char *call = writing ? "vmnet_write" : "vmnet_read";
    if (!packets || !count || *count < 0) {
        sim_violation("%s: %s", call, packets && count ? "a negative count of packets" : "NULL for packets or count");
        return VMNET_INVALID_ARGUMENT;
    }
    if (*count > interface->packets_per_call) {
        sim_violation("%s: %d packets, of %d that one call may carry", call, *count, interface->packets_per_call);
        return VMNET_TOO_MANY_PACKETS;
    }
    for (int i = 0; i < *count; i++) {
        vmnet_return_t status = check_one(interface, &packets[i], i, writing);
        if (status != VMNET_SUCCESS)
            return status;
    }
    return VMNET_SUCCESS;
}
