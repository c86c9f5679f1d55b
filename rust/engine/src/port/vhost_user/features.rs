//! What is offered to a guest and to its front end, and what follows from what they take. Pure.

use vhost::vhost_user::VhostUserProtocolFeatures;

use crate::vnet_header::{self, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Offloads, VnetHeader};

// Bits of virtio 1.2, 5.1.3 and 6, and of the vhost-user specification.
const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MTU: u64 = 1 << 3;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const GUEST_ECN: u64 = 1 << 9;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_ECN: u64 = 1 << 13;
pub(super) const MRG_RXBUF: u64 = 1 << 15;
const GUEST_ANNOUNCE: u64 = 1 << 21;
pub(super) const INDIRECT_DESC: u64 = 1 << 28;
pub(super) const EVENT_IDX: u64 = 1 << 29;
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;
pub(super) const VERSION_1: u64 = 1 << 32;
const GUEST_USO4: u64 = 1 << 54;
const GUEST_USO6: u64 = 1 << 55;
const HOST_USO: u64 = 1 << 56;

/// Everything we can do. Not among them: multiqueue (one thread moves all frames of a network), packed rings,
/// logging of what is written (live migration), and UDP fragmentation, which nobody makes any more.
pub(super) const OFFERED: u64 = CSUM
    | GUEST_CSUM
    | MTU
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_ECN
    | HOST_TSO4
    | HOST_TSO6
    | HOST_ECN
    | MRG_RXBUF
    | GUEST_ANNOUNCE
    | INDIRECT_DESC
    | EVENT_IDX
    | PROTOCOL_FEATURES
    | VERSION_1
    | GUEST_USO4
    | GUEST_USO6
    | HOST_USO;

/// Of the protocol between front end and us. `MQ` so that QEMU asks how many queues there are, and says so when it
/// was told to use more.
pub(super) fn protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::MTU
        | VhostUserProtocolFeatures::RARP
        | VhostUserProtocolFeatures::RESET_DEVICE
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
}

/// What a guest acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged(pub(super) u64);

impl Acknowledged {
    pub(super) fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Bytes of the header in front of each frame: without `num_buffers` for old drivers.
    pub(super) fn header_len(self) -> usize {
        if self.has(VERSION_1) || self.has(MRG_RXBUF) { vnet_header::LEN } else { vnet_header::LEN - 2 }
    }

    /// What the guest takes besides finished frames. Without merged buffers a guest that takes super-frames has
    /// buffers that are long enough.
    pub(super) fn offloads(self) -> Offloads {
        let checksum = self.has(GUEST_CSUM);
        Offloads {
            checksum,
            tso4: checksum && self.has(GUEST_TSO4),
            tso6: checksum && self.has(GUEST_TSO6),
            uso: checksum && self.has(GUEST_USO4 | GUEST_USO6),
            ..Offloads::NONE
        }
    }

    /// The header as the guest is to see it, for a frame in one buffer. A guest that was not told of the ECN bit
    /// gets none: it is of use only to who cuts the frame again.
    pub(super) fn shown(self, mut header: VnetHeader) -> VnetHeader {
        if !self.has(GUEST_ECN) {
            header.gso_type &= !GSO_ECN;
        }
        header.num_buffers = 1;
        header
    }

    /// The header that a guest wrote, as it may be believed: only what it was offered. That it fits the frame is
    /// checked by who makes use of it. None for a kind of super-frame that the guest has no right to.
    pub(super) fn believed(self, header: VnetHeader) -> Option<VnetHeader> {
        let needed = match header.gso_type & !GSO_ECN {
            GSO_NONE if header.gso_type == GSO_NONE => 0,
            GSO_TCPV4 => HOST_TSO4,
            GSO_TCPV6 => HOST_TSO6,
            GSO_UDP_L4 => HOST_USO,
            _ => return None,
        };
        let flags = header.flags & vnet_header::FLAG_NEEDS_CSUM;
        let kind_allowed = header.gso_type == GSO_NONE || (self.has(CSUM | needed) && flags != 0);
        let allowed = kind_allowed && (flags == 0 || self.has(CSUM));
        allowed.then_some(VnetHeader { flags, num_buffers: 0, ..header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vnet_header::{FLAG_DATA_VALID, FLAG_NEEDS_CSUM};

    const ALL: Acknowledged = Acknowledged(OFFERED);

    fn header(flags: u8, gso_type: u8) -> VnetHeader {
        VnetHeader { flags, gso_type, ..VnetHeader::default() }
    }

    #[test]
    fn a_guest_gets_what_it_acknowledged() {
        assert_eq!(ALL.offloads(), Offloads::ALL);
        assert_eq!(Acknowledged(VERSION_1).offloads(), Offloads::NONE);
        assert_eq!(Acknowledged(GUEST_TSO4 | GUEST_TSO6 | GUEST_USO4).offloads(), Offloads::NONE);
        let some = Acknowledged(GUEST_CSUM | GUEST_TSO4 | GUEST_USO4);
        assert_eq!(some.offloads(), Offloads { checksum: true, tso4: true, ..Offloads::NONE });
    }

    #[test]
    fn the_header_is_short_for_old_drivers_only() {
        let lens = [0, MRG_RXBUF, VERSION_1, OFFERED].map(|bits| Acknowledged(bits).header_len());
        assert_eq!(lens, [10, 12, 12, 12]);
    }

    #[test]
    fn a_guest_may_ask_for_what_it_was_offered() {
        let plain = Acknowledged(VERSION_1);
        let checksum = Acknowledged(VERSION_1 | CSUM);
        for (flags, kind, plain_may, checksum_may, all_may) in [
            (0, GSO_NONE, true, true, true),
            (FLAG_DATA_VALID, GSO_NONE, true, true, true),
            (FLAG_NEEDS_CSUM, GSO_NONE, false, true, true),
            (FLAG_NEEDS_CSUM, GSO_TCPV4, false, false, true),
            (FLAG_NEEDS_CSUM, GSO_TCPV6 | GSO_ECN, false, false, true),
            (FLAG_NEEDS_CSUM, GSO_UDP_L4, false, false, true),
            (0, GSO_TCPV4, false, false, false),
            (FLAG_NEEDS_CSUM, 3, false, false, false),
            (FLAG_NEEDS_CSUM, GSO_ECN, false, false, false),
        ] {
            let may = [plain, checksum, ALL].map(|who| who.believed(header(flags, kind)).is_some());
            assert_eq!(may, [plain_may, checksum_may, all_may], "{flags} {kind}");
        }
    }

    #[test]
    fn a_guest_cannot_vouch_for_a_checksum_nor_count_buffers() {
        let said = VnetHeader { num_buffers: 77, ..header(FLAG_DATA_VALID | 0xf0, GSO_NONE) };
        assert_eq!(ALL.believed(said), Some(VnetHeader::default()));
    }

    #[test]
    fn the_ecn_bit_is_for_those_who_know_it() {
        let marked = header(FLAG_NEEDS_CSUM, GSO_TCPV4 | GSO_ECN);
        assert_eq!(ALL.shown(marked).gso_type, GSO_TCPV4 | GSO_ECN);
        assert_eq!(Acknowledged(GUEST_CSUM | GUEST_TSO4).shown(marked).gso_type, GSO_TCPV4);
    }
}
