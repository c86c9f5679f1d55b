//! Builders for the tests of this folder: a TCP or UDP frame in one line.

use super::checksum::Sum;
use super::layers;
use super::tcp_flags::ACK;
use crate::pool::FrameRef;
use crate::vnet_header::{self, VnetHeader};

/// What a frame says; everything else about it is the same in all.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) v6: bool,
    pub(crate) tags: usize,
    pub(crate) port: u16,
    pub(crate) kind: u8,
    pub(crate) hops: u8,
    /// Flags and fragment offset of IPv4.
    pub(crate) fragment: u16,
    pub(crate) identification: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Bytes behind the packet.
    pub(crate) padding: usize,
}

pub(crate) const DO_NOT_FRAGMENT: u16 = 0x4000;

impl Packet {
    /// A segment that brings `len` bytes.
    pub(crate) fn new(v6: bool, sequence: u32, len: usize) -> Self {
        let payload = (0..len).map(|at| (sequence as usize + at) as u8).collect();
        Self {
            v6,
            tags: 0,
            port: 5201,
            kind: 0,
            hops: 64,
            fragment: DO_NOT_FRAGMENT,
            identification: 0,
            sequence,
            acknowledged: 77,
            flags: ACK,
            window: 501,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload,
            padding: 0,
        }
    }

    fn ethernet(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2];
        for tag in 0..self.tags {
            frame.extend([0x81, 0, 0, tag as u8 + 5]);
        }
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        let network = frame.len();
        if self.v6 {
            let len = (transport.len() as u16).to_be_bytes();
            frame.extend([0x60 | self.kind >> 4, self.kind << 4, 0, 9, len[0], len[1], protocol, self.hops]);
            frame.extend([[0xfd; 16], [0xfe; 16]].concat());
        } else {
            let len = (20 + transport.len() as u16).to_be_bytes();
            let [id, fragment] = [self.identification, self.fragment].map(u16::to_be_bytes);
            frame.extend([0x45, self.kind, len[0], len[1], id[0], id[1], fragment[0], fragment[1]]);
            frame.extend([self.hops, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = Sum::default().with(&frame[network..]).checksum();
            frame[network + 10..][..2].copy_from_slice(&sum.to_be_bytes());
        }
        frame.extend(transport);
        frame
    }

    /// As a finished TCP frame behind an empty virtio-net header.
    pub(crate) fn tcp(&self) -> Vec<u8> {
        let mut header = [[0x14, 0x51], self.port.to_be_bytes()].concat();
        header.extend(self.sequence.to_be_bytes());
        header.extend(self.acknowledged.to_be_bytes());
        header.extend([((20 + self.options.len() as u8) / 4) << 4, self.flags]);
        header.extend([self.window.to_be_bytes(), [0; 2], [0; 2]].concat());
        header.extend(&self.options);
        self.finished(layers::TCP, &[header, self.payload.clone()].concat(), 16)
    }

    /// As a finished UDP frame.
    pub(crate) fn udp(&self) -> Vec<u8> {
        let len = (8 + self.payload.len() as u16).to_be_bytes();
        let header = [[0x14, 0x51], self.port.to_be_bytes(), len, [0; 2]].concat();
        self.finished(layers::UDP, &[header, self.payload.clone()].concat(), 6)
    }

    fn finished(&self, protocol: u8, transport: &[u8], checksum_at: usize) -> Vec<u8> {
        let mut frame = self.ethernet(protocol, transport);
        let at = frame.len() - transport.len();
        let addresses = if self.v6 { at - 32..at } else { at - 8..at };
        let words = Sum::default().with_word(u16::from(protocol)).with_word(transport.len() as u16);
        let sum = words.with(&frame[addresses]).with(transport).checksum();
        frame[at + checksum_at..][..2].copy_from_slice(&sum.to_be_bytes());
        frame.extend(vec![0; self.padding]);
        [vec![0; vnet_header::LEN], frame].concat()
    }
}

/// The same frame behind another virtio-net header.
pub(crate) fn behind(header: VnetHeader, frame: &[u8]) -> Vec<u8> {
    [&header.to_bytes()[..], &frame[vnet_header::LEN..]].concat()
}

pub(crate) fn refs(frames: &[Vec<u8>]) -> Vec<FrameRef<'_>> {
    frames.iter().map(|bytes| FrameRef::new(bytes)).collect()
}
