//! Counters of one endpoint and of a capture, and the names of the reasons for which frames are dropped. Pure.
//!
//! Every dropped frame raises exactly one reason, on the endpoint that is to blame: what a sender did wrong
//! counts at the sender, what a receiver could not take counts at the receiver.

/// Why a frame (or one destination's copy of a flooded frame) went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DropReason {
    /// Received with fewer bytes than an Ethernet header has.
    Runt,
    /// Received longer than the engine moves.
    Oversized,
    /// Received with a source address that no station can have (a group, or zero).
    BadSource,
    /// Received for a station on the port it came from.
    SamePort,
    /// Received by a receive-only endpoint, but for a group of stations.
    GroupAddress,
    /// Received from a sender without an address, to whom nobody could answer.
    NoAddress,
    /// Received from a sender that was not admitted, or not yet and there was no room to keep it.
    UnknownSender,
    /// There is nobody to give it to.
    NoDestination,
    /// Its port was put down: received there, or it would have gone there.
    PortDown,
    /// Received with an unfinished checksum that lies outside the frame.
    BadChecksumOffset,
    /// Received as a super-frame that cannot be cut, for peers of whom one takes none; or asking for something that
    /// its sender was not offered.
    BadSuperFrame,
    /// The peer did not read and its queue is full.
    QueueFull,
    /// The peer's end is closed.
    PeerGone,
    /// The interface is down, or the guest's driver is not running.
    InterfaceDown,
    /// The kernel does not take this frame here: too long for the socket, or no memory.
    Refused,
    /// Longer than the longest frame of the interface it was for, or than all the buffers that a guest has for it.
    TooLong,
    /// The interface it was for takes nothing, for a reason that has nothing to do with the frame.
    WriteFailed,
    /// The user-mode stack is not to see it: guests may not reach its destination, or it is of no use there.
    Denied,
    /// The user-mode stack is not to see it: its source is no address of the segment.
    ForgedSource,
    /// The user-mode stack may have no more sockets for the one who sent it.
    NoSocket,
}

impl DropReason {
    /// Every reason, in the order of [`Counters::drops`].
    pub const ALL: [Self; 20] = [
        Self::Runt,
        Self::Oversized,
        Self::BadSource,
        Self::SamePort,
        Self::GroupAddress,
        Self::NoAddress,
        Self::UnknownSender,
        Self::NoDestination,
        Self::PortDown,
        Self::BadChecksumOffset,
        Self::BadSuperFrame,
        Self::QueueFull,
        Self::PeerGone,
        Self::InterfaceDown,
        Self::Refused,
        Self::TooLong,
        Self::WriteFailed,
        Self::Denied,
        Self::ForgedSource,
        Self::NoSocket,
    ];

    /// The name that counters are shown under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runt => "runt",
            Self::Oversized => "oversized",
            Self::BadSource => "bad_source",
            Self::SamePort => "same_port",
            Self::GroupAddress => "group_address",
            Self::NoAddress => "no_address",
            Self::UnknownSender => "unknown_sender",
            Self::NoDestination => "no_destination",
            Self::PortDown => "port_down",
            Self::BadChecksumOffset => "bad_checksum_offset",
            Self::BadSuperFrame => "bad_super_frame",
            Self::QueueFull => "queue_full",
            Self::PeerGone => "peer_gone",
            Self::InterfaceDown => "interface_down",
            Self::Refused => "refused",
            Self::TooLong => "too_long",
            Self::WriteFailed => "write_failed",
            Self::Denied => "denied",
            Self::ForgedSource => "forged_source",
            Self::NoSocket => "no_socket",
        }
    }
}

/// What one endpoint has seen since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received from the peer, dropped ones included.
    pub rx_frames: u64,
    /// Their bytes, without any virtio-net header.
    pub rx_bytes: u64,
    /// Frames the kernel took for the peer.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// One more frame came in.
    pub fn received(&mut self, bytes: usize) {
        self.rx_frames += 1;
        self.rx_bytes += bytes as u64;
    }

    /// One more frame went out.
    pub fn sent(&mut self, bytes: usize) {
        self.tx_frames += 1;
        self.tx_bytes += bytes as u64;
    }

    /// One more frame went nowhere.
    pub fn dropped(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// How often `reason` was raised.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// All drops together.
    #[must_use]
    pub fn dropped_frames(&self) -> u64 {
        self.drops.iter().sum()
    }
}

/// Number of a capture, for the caller; never used again.
pub type CaptureId = u64;

/// One capture's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureStats {
    /// Which one.
    pub capture: CaptureId,
    /// Frames that were recorded.
    pub frames: u64,
    /// Frames for which there was no room.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_lists_every_reason_once_in_order() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn each_reason_has_its_own_counter() {
        let mut counters = Counters::default();
        counters.dropped(DropReason::Runt);
        counters.dropped(DropReason::Refused);
        counters.dropped(DropReason::Refused);
        assert_eq!(counters.drops(DropReason::Runt), 1);
        assert_eq!(counters.drops(DropReason::Refused), 2);
        assert_eq!(counters.dropped_frames(), 3);
    }
}
