//! Around a port whose peer leaves work to do without a virtio-net header that says so: krunkit's offload mode, and
//! an interface of vmnet with TSO. The headers are made here of what the frames themselves tell.
//!
//! Facts this file rests on: libkrun strips the 12 bytes from what its guest sends and gives it zeros in front of what
//! it receives. So the guest's frames may be TCP super-frames and may have unfinished checksums, and the guest takes a
//! TCP super-frame as one large packet, but only with a right checksum. krunkit offers its guests TSO over IPv4
//! and not over IPv6. vmnet-helper, which hands such frames to vmnet and back as they are, shows that vmnet with TSO and
//! checksum offload takes and gives the same; about IPv6 nobody says anything.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::slirp::Forward;
use super::{Down, Port};
use crate::egress::ENOUGH_BYTES;
use crate::frame;
use crate::offload::adopt::{self, adopt};
use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::sources::Sources;
use crate::stats::{Counters, DropReason};
use crate::vnet_header::{self, Need, Offloads, VnetHeader};

/// The port. See the module's head.
pub struct Bare {
    inner: Box<dyn Port>,
    /// Longest packet of the other ports' links: how long the segments of a super-frame from here may be.
    mtu: usize,
    takes: Offloads,
    /// Whether super-frames go out with a finished checksum.
    finishes: bool,
    made: Vec<u8>,
}

impl Bare {
    /// `inner` leads to a guest of krunkit with `offloading=on`.
    #[must_use]
    pub fn krunkit(inner: Box<dyn Port>, mtu: usize) -> Self {
        Self::new(inner, mtu, Offloads { tso4: true, ..Offloads::NONE }, true)
    }

    /// `inner` is an interface of vmnet with TSO and checksum offload. It cuts super-frames to segments as long as its
    /// link takes, whatever their sender had in mind, so that it gets only those for which that is the same.
    #[must_use]
    pub fn vmnet(inner: Box<dyn Port>, mtu: usize) -> Self {
        let takes = Offloads { checksum: true, tso4: true, full_packet: mtu as u16, ..Offloads::NONE };
        Self::new(inner, mtu, takes, false)
    }

    fn new(inner: Box<dyn Port>, mtu: usize, takes: Offloads, finishes: bool) -> Self {
        Self { inner, mtu, takes, finishes, made: Vec::new() }
    }

    /// Send a portion of `frames` with finished checksums. Says how many there were in it, and how many were taken.
    fn send_finished(
        &mut self,
        frames: &[FrameRef<'_>],
        counters: &mut Counters,
    ) -> Result<(usize, usize), Down> {
        self.made.clear();
        let mut ends = [0; BATCH];
        let mut count = 0;
        for frame in frames.iter().take(BATCH) {
            if frame.header().need() != Need::Nothing {
                let from = self.made.len();
                self.made.extend_from_slice(&VnetHeader::default().to_bytes());
                self.made.extend_from_slice(frame.ethernet());
                // One that has no checksum after all stays as it is: the peer will not like it, nor would anybody.
                adopt::finish(&mut self.made[from + vnet_header::LEN..]);
            }
            ends[count] = self.made.len();
            count += 1;
            if self.made.len() >= ENOUGH_BYTES {
                break;
            }
        }
        let mut out = [FrameRef::EMPTY; BATCH];
        let mut from = 0;
        for (number, place) in out[..count].iter_mut().enumerate() {
            let to = ends[number];
            *place = if to > from { FrameRef::new(&self.made[from..to]) } else { frames[number] };
            from = to;
        }
        let taken = self.inner.send(&out[..count], counters)?;
        Ok((count, taken))
    }
}

impl Port for Bare {
    fn descriptor(&self) -> RawFd {
        self.inner.descriptor()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        let first = batch.len();
        let result = self.inner.receive(batch);
        self.complete(batch, first);
        result
    }

    fn complete(&self, batch: &mut Batch, first: usize) {
        for index in first..batch.len() {
            let Received::Frame(len) = batch.received(index) else { continue };
            if len < frame::HEADER_LEN {
                continue;
            }
            match adopt(batch.ethernet_mut(index), self.mtu) {
                Ok(header) if header == VnetHeader::default() => {}
                Ok(header) => batch.set_header(index, header),
                Err(_) => batch.replace(index, Received::Dropped(len, DropReason::BadSuperFrame)),
            }
        }
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        if !self.finishes || frames.iter().all(|frame| frame.header().need() == Need::Nothing) {
            return self.inner.send(frames, counters);
        }
        let mut done = 0;
        while done < frames.len() {
            let (given, taken) = self.send_finished(&frames[done..], counters)?;
            done += taken;
            if taken < given {
                break;
            }
        }
        Ok(done)
    }

    fn holds_frames(&self) -> bool {
        self.inner.holds_frames()
    }

    fn may_rest(&self) -> bool {
        self.inner.may_rest()
    }

    fn health(&mut self) -> Result<(), Down> {
        self.inner.health()
    }

    fn reads(&self) -> bool {
        self.inner.reads()
    }

    fn sources(&mut self) -> Option<&mut Sources> {
        self.inner.sources()
    }

    fn again_after(&self) -> Option<Duration> {
        self.inner.again_after()
    }

    fn readable_means_room(&self) -> bool {
        self.inner.readable_means_room()
    }

    fn says_room(&self) -> bool {
        self.inner.says_room()
    }

    fn take_trouble(&mut self) -> Option<String> {
        self.inner.take_trouble()
    }

    fn reads_many_at_once(&self) -> bool {
        self.inner.reads_many_at_once()
    }

    fn sender_waits(&self) -> bool {
        self.inner.sender_waits()
    }

    fn offloads(&self) -> Offloads {
        self.takes
    }

    fn share_socket(&mut self) {
        self.inner.share_socket();
    }

    fn forward(&mut self, forward: &Forward, on: bool) -> io::Result<()> {
        self.inner.forward(forward, on)
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::{Peer, channel};
    use super::*;
    use crate::offload::checksum::finish_checksum;
    use crate::offload::segment::Segments;
    use crate::offload::testing::Packet;
    use crate::vnet_header::{GSO_TCPV4, GSO_TCPV6, LEN};

    const MTU: usize = 1_500;

    fn krunkit(room: usize) -> (Bare, Peer) {
        let (io, peer) = channel(room).unwrap();
        (Bare::krunkit(Box::new(io), MTU), peer)
    }

    fn receive(port: &mut Bare) -> Vec<(Received, VnetHeader)> {
        let mut batch = Batch::new();
        port.receive(&mut batch).unwrap();
        (0..batch.len()).map(|index| (batch.received(index), batch.header(index))).collect()
    }

    fn bare(packet: &[u8]) -> Vec<u8> {
        packet[LEN..].to_vec()
    }

    /// A super-frame as another port gives it.
    fn super_frame(len: usize) -> (Vec<u8>, Vec<u8>) {
        let finished = Packet::new(false, 1, len).tcp();
        let mut frame = bare(&finished);
        let header = adopt(&mut frame, MTU).unwrap();
        ([&header.to_bytes()[..], &frame].concat(), bare(&finished))
    }

    #[test]
    fn frames_get_the_headers_that_they_came_without() {
        let (mut port, peer) = krunkit(BATCH);
        let small = bare(&Packet::new(false, 1, 100).tcp());
        let (large, _) = super_frame(30_000);
        let six = bare(&Packet::new(true, 1, 30_000).tcp());
        let long = bare(&Packet::new(false, 1, 3_000).udp());
        peer.send(&[small.clone(), bare(&large), vec![7; 5], six, long.clone()]);
        let got = receive(&mut port);
        assert_eq!(got[0], (Received::Frame(small.len()), VnetHeader::default()));
        assert_eq!(got[1], (Received::Frame(large.len() - LEN), FrameRef::new(&large).header()));
        assert_eq!((got[1].1.gso_type, got[1].1.gso_size), (GSO_TCPV4, 1_448));
        assert_eq!(got[2], (Received::Frame(5), VnetHeader::default()));
        assert_eq!((got[3].1.gso_type, got[3].1.gso_size), (GSO_TCPV6, 1_428));
        assert_eq!(got[4].0, Received::Dropped(long.len(), DropReason::BadSuperFrame));
    }

    #[test]
    fn a_guest_gets_super_frames_whole_with_a_right_checksum_and_in_order() {
        let (mut port, peer) = krunkit(BATCH);
        let (large, finished) = super_frame(60_000);
        let small = Packet::new(false, 1, 100).tcp();
        // Several portions.
        let frames: Vec<_> =
            (0..20).map(|number| FrameRef::new(if number % 3 == 0 { &small } else { &large })).collect();
        let mut counters = Counters::default();
        assert_eq!(port.send(&frames, &mut counters), Ok(20));
        assert_eq!(counters.tx_frames, 20);
        for (number, (header, frame)) in peer.take().into_iter().enumerate() {
            assert_eq!(header, VnetHeader::default());
            assert!(frame == if number % 3 == 0 { bare(&small) } else { finished.clone() }, "{number}");
        }
    }

    #[test]
    fn what_a_guest_does_not_take_is_not_counted_as_taken() {
        let (mut port, peer) = krunkit(7);
        let (large, finished) = super_frame(60_000);
        let frames = [FrameRef::new(&large); 12];
        let mut counters = Counters::default();
        assert_eq!(port.send(&frames, &mut counters), Ok(7));
        assert_eq!(counters.tx_frames, 7);
        let got = peer.take();
        assert_eq!(got.len(), 7);
        assert!(got.iter().all(|(_, frame)| *frame == finished));
    }

    #[test]
    fn a_super_frame_that_is_none_harms_nobody() {
        let (mut port, peer) = krunkit(BATCH);
        for len in [0, 14, 33, 40] {
            let (mut large, _) = super_frame(3_000);
            large.truncate(LEN + len);
            assert_eq!(port.send(&[FrameRef::new(&large)], &mut Counters::default()), Ok(1));
            assert_eq!(peer.take()[0].1.len(), len);
        }
    }

    #[test]
    fn vmnet_gets_unfinished_checksums_and_only_super_frames_that_it_cuts_as_they_were_meant() {
        let (io, peer) = channel(BATCH).unwrap();
        let mut port = Bare::vmnet(Box::new(io), MTU);
        let (large, _) = super_frame(30_000);
        let header = FrameRef::new(&large).header();
        assert!(port.offloads().take(&header));
        assert!(!port.offloads().take(&VnetHeader { gso_size: 1_200, ..header }));
        assert!(!port.offloads().take(&VnetHeader { gso_type: GSO_TCPV6, ..header }));
        assert_eq!(port.send(&[FrameRef::new(&large)], &mut Counters::default()), Ok(1));
        assert!(peer.take()[0].1 == bare(&large));
    }

    #[test]
    fn what_came_from_one_guest_is_right_for_any_other() {
        let (mut port, peer) = krunkit(BATCH);
        let (large, finished) = super_frame(30_000);
        peer.send(&[bare(&large)]);
        let mut batch = Batch::new();
        port.receive(&mut batch).unwrap();
        let segments = Segments::of(&batch.header(0), batch.frame(0).ethernet()).unwrap();
        assert_eq!(segments.count(), 30_000_usize.div_ceil(1_448));
        let header = batch.header(0);
        finish_checksum(header, batch.ethernet_mut(0)).unwrap();
        assert!(batch.frame(0).ethernet() == finished);
    }
}
