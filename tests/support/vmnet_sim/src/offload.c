/*
 * offload.c: an interface with TSO or checksum offload, on a TAP with a virtio-net header that the client
 * does not see: the header is made from the frame when it is written, and acted on when one is read.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interface.h"

#define ETHERNET 14
#define IPV6 40

/* Where the headers of a TCP or UDP packet are; `transport` 0 when it is neither, or a fragment. */
struct layers {
    bool v6;
    uint8_t protocol;
    size_t transport, length, checksum; /* offsets in the frame; length of the transport part */
    size_t transport_header;
};

static uint16_t word(const uint8_t *at) {
    return (uint16_t)(at[0] << 8 | at[1]);
}

static bool find_layers(const uint8_t *frame, size_t length, struct layers *out) {
    memset(out, 0, sizeof *out);
    if (length < ETHERNET + 20)
        return false;
    const uint8_t *ip = frame + ETHERNET;
    size_t end;
    if (word(frame + 12) == 0x0800) {
        size_t header = (size_t)(ip[0] & 15) * 4;
        end = ETHERNET + word(ip + 2);
        if (header < 20 || (word(ip + 6) & 0x3fff) != 0)
            return false;
        out->protocol = ip[9];
        out->transport = ETHERNET + header;
    } else if (word(frame + 12) == 0x86dd && length >= ETHERNET + IPV6) {
        end = ETHERNET + IPV6 + word(ip + 4);
        out->v6 = true;
        out->protocol = ip[6];
        out->transport = ETHERNET + IPV6;
    } else {
        return false;
    }
    bool tcp = out->protocol == IPPROTO_TCP;
    if ((!tcp && out->protocol != IPPROTO_UDP) || end > length || end < out->transport + (tcp ? 20 : 8))
        return false;
    out->length = end - out->transport;
    out->checksum = out->transport + (tcp ? 16 : 6);
    out->transport_header = tcp ? (size_t)(frame[out->transport + 12] >> 4) * 4 : 8;
    return out->transport_header >= (tcp ? 20u : 8u) && out->transport_header <= out->length;
}

static uint32_t sum(const uint8_t *data, size_t length, uint32_t so_far) {
    for (size_t i = 0; i + 1 < length; i += 2)
        so_far += word(data + i);
    if (length % 2)
        so_far += (uint32_t)data[length - 1] << 8;
    return so_far;
}

static uint16_t fold(uint32_t value) {
    while (value >> 16)
        value = (value & 0xffff) + (value >> 16);
    return (uint16_t)value;
}

static uint16_t pseudo_header(const uint8_t *frame, const struct layers *at) {
    const uint8_t *ip = frame + ETHERNET;
    uint32_t total = at->v6 ? sum(ip + 8, 32, 0) : sum(ip + 12, 8, 0);
    return fold(total + at->protocol + (uint32_t)(at->length >> 16) + (uint32_t)(at->length & 0xffff));
}

ssize_t sim_offload_write(const struct vmnet_interface *interface, const void *data, size_t length) {
    const uint8_t *frame = data;
    struct virtio_net_hdr_mrg_rxbuf header = {0};
    struct layers at;
    bool known = find_layers(frame, length, &at);
    bool large = interface->tso && length > interface->mtu + ETHERNET && known && at.protocol == IPPROTO_TCP;
    if (!large && length > interface->mtu + ETHERNET)
        return (ssize_t)length; /* nothing that can be cut: dropped, as a check that fails is */
    struct iovec parts[4] = {{&header, sizeof header}, {(void *)frame, length}};
    uint8_t partial[2];
    int count = 2;
    if (large || (interface->checksum && known)) {
        uint16_t start = htons(pseudo_header(frame, &at));
        memcpy(partial, &start, 2);
        header.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.hdr.csum_start = (uint16_t)at.transport;
        header.hdr.csum_offset = (uint16_t)(at.checksum - at.transport);
        /* The frame is the client's: its checksum field is replaced on the way. */
        parts[1].iov_len = at.checksum;
        parts[2] = (struct iovec){partial, 2};
        parts[3] = (struct iovec){(void *)(frame + at.checksum + 2), length - at.checksum - 2};
        count = 4;
    }
    if (large) {
        size_t headers = at.transport + at.transport_header;
        header.hdr.gso_type = at.v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
        header.hdr.hdr_len = (uint16_t)headers;
        header.hdr.gso_size = (uint16_t)(interface->mtu + ETHERNET - headers);
    }
    return writev(interface->tap, parts, count);
}

ssize_t sim_offload_read(const struct vmnet_interface *interface, void *data, size_t room) {
    struct virtio_net_hdr_mrg_rxbuf header;
    struct iovec parts[2] = {{&header, sizeof header}, {data, room}};
    for (;;) {
        ssize_t length = readv(interface->tap, parts, 2);
        if (length < (ssize_t)sizeof header)
            return length < 0 ? length : (errno = EIO, -1);
        length -= (ssize_t)sizeof header;
        uint8_t *frame = data;
        size_t start = header.hdr.csum_start, field = start + header.hdr.csum_offset;
        bool partial = header.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && field + 2 <= (size_t)length;
        if (partial && !interface->checksum) {
            uint16_t checksum = htons((uint16_t)~fold(sum(frame + start, (size_t)length - start, 0)));
            memcpy(frame + field, &checksum, 2);
        }
        struct layers at;
        if (interface->checksum && !partial && find_layers(frame, (size_t)length, &at) && word(frame + at.checksum) &&
            fold(sum(frame + at.transport, at.length, pseudo_header(frame, &at))) != 0xffff)
            continue; /* a bad checksum never reaches the client */
        return length;
    }
}
