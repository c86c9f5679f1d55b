//! TCP frames of one batch to super-frames, by the rules of the kernel's generic receive offload. Pure.
//!
//! Frames of one flow that follow one another are joined when cutting the result gives them back. The one
//! exception is the IPv4 identification of packets that must not be fragmented: some senders leave it the same in all,
//! cutting counts it up, and nobody may look at it (RFC 6864 4.1).
//!
//! Order within a flow never changes: what cannot be joined ends the super-frame before it. Frames of different flows may
//! change places. Checksums are verified before they are thrown away, so that nothing broken becomes whole.

use super::checksum::Sum;
use super::layers::{self, Layers, TCP, Unlayered, Version};
use super::tcp_flags::{ACK, CWR, FIN, PSH, RST, SYN, URG};
use crate::frame;
use crate::pool::{BATCH, FrameRef};
use crate::vnet_header::{FLAG_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, Need, Offloads, VnetHeader};

/// Where TCP's checksum is in its header.
const CHECKSUM_AT: usize = 16;

/// Longest frame that is made. A longer one, which an IP packet may be, kernels cut before they hand it to a card
/// (Linux's `gso_max_size` counts the Ethernet header).
const LONGEST: usize = u16::MAX as usize;

const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
const MUST_NOT_FRAGMENT: u8 = 0x40;

/// Why a frame is not joined to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not TCP over IP.
    NotTcp,
    /// The peer takes no such super-frames.
    NotWanted,
    /// It has a VLAN tag, IPv4 options or IPv6 extension headers.
    Wrapped,
    /// A part of a packet.
    Fragment,
    /// It is a super-frame already.
    SuperFrame,
    /// The lengths in its headers are not those of the frame.
    Length,
    /// It brings no data.
    NoData,
    /// A connection begins or ends, or something is urgent.
    Flags,
    /// A checksum is wrong, its own or that of the frame it would be joined to.
    Checksum,
    /// The first of its flow in this batch, or the one before it was the last of a super-frame: pushed, finished, or
    /// shorter than the others.
    First,
    /// Type of service, time to live, flow label or the like is another.
    NetworkHeader,
    /// The IPv4 identification is not the next one.
    Identification,
    /// It does not follow on the data before it.
    Sequence,
    /// It acknowledges something else, or its window, its flags or its options are others.
    TransportHeader,
    /// The sender reduced its window (CWR) here, which only the first segment can say.
    Reduced,
    /// The peer would cut the super-frame to longer frames than these.
    Short,
    /// More data than the first one brought.
    Larger,
    /// The frame would become too long.
    Full,
}

/// What a frame says as a TCP segment.
#[derive(Clone, Copy, Debug)]
struct Segment {
    version: Version,
    /// Where TCP's header begins and where its data does.
    transport: usize,
    data: usize,
    sequence: u32,
    flags: u8,
    identification: u16,
}

/// Read `frame` as the segment of a flow, whether or not it can be joined to anything.
fn parse(frame: FrameRef<'_>) -> Result<Segment, Refusal> {
    let bytes = frame.ethernet();
    let Layers { version, network, transport, protocol } =
        layers::find(bytes).map_err(|reason| match reason {
            Unlayered::NotIp | Unlayered::Short => Refusal::NotTcp,
            Unlayered::Fragment => Refusal::Fragment,
            Unlayered::Extension => Refusal::Wrapped,
        })?;
    if protocol != TCP {
        return Err(Refusal::NotTcp);
    }
    let plain = match version {
        Version::V4 => IPV4_HEADER_LEN,
        Version::V6 => IPV6_HEADER_LEN,
    };
    if network != frame::HEADER_LEN || transport != network + plain {
        return Err(Refusal::Wrapped);
    }
    let header: &[u8; 20] = bytes[transport..].first_chunk().ok_or(Refusal::NotTcp)?;
    let data = transport + usize::from(header[12] >> 4) * 4;
    if data < transport + header.len() || data > bytes.len() {
        return Err(Refusal::NotTcp);
    }
    Ok(Segment {
        version,
        transport,
        data,
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        flags: header[13],
        identification: u16::from_be_bytes([bytes[network + 4], bytes[network + 5]]),
    })
}

impl Segment {
    /// Whether it can be a part of a super-frame at all.
    fn check(&self, frame: FrameRef<'_>) -> Result<(), Refusal> {
        if frame.header().need() == Need::Segmentation {
            return Err(Refusal::SuperFrame);
        }
        if self.flags & (SYN | RST | URG) != 0 || self.flags & ACK == 0 {
            return Err(Refusal::Flags);
        }
        let bytes = frame.ethernet();
        let end = self.layers().packet_end(bytes);
        // A short frame is padded, so that this one comes first.
        if end <= self.data {
            return Err(Refusal::NoData);
        }
        if end != bytes.len() {
            return Err(Refusal::Length);
        }
        Ok(())
    }

    /// Whether its checksums are right; one that the sender left unfinished is.
    fn verify(&self, frame: FrameRef<'_>) -> Result<(), Refusal> {
        let (bytes, header) = (frame.ethernet(), frame.header());
        if self.version == Version::V4
            && !Sum::default().with(&bytes[frame::HEADER_LEN..self.transport]).verifies()
        {
            return Err(Refusal::Checksum);
        }
        let right = if header.need() == Need::Checksum {
            usize::from(header.csum_start) == self.transport && usize::from(header.csum_offset) == CHECKSUM_AT
        } else {
            let transport = &bytes[self.transport..];
            self.layers().pseudo_header(bytes, transport.len()).with(transport).verifies()
        };
        if right { Ok(()) } else { Err(Refusal::Checksum) }
    }

    fn layers(&self) -> Layers {
        Layers { version: self.version, network: frame::HEADER_LEN, transport: self.transport, protocol: TCP }
    }

    /// What tells its flow from others: addresses of Ethernet, the type, addresses of IP, ports.
    fn flow<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let addresses = match self.version {
            Version::V4 => 8,
            Version::V6 => 32,
        };
        (&bytes[..frame::HEADER_LEN], &bytes[self.transport - addresses..self.transport + 4])
    }

    /// What all packets of a super-frame have in common in the network header, lengths and addresses aside.
    fn network_traits(&self, bytes: &[u8]) -> [u8; 5] {
        let network = &bytes[frame::HEADER_LEN..];
        match self.version {
            // Type of service, flags with the fragment's offset, time to live.
            Version::V4 => [network[1], network[6], network[7], network[8], 0],
            // Class and flow label, hop limit.
            Version::V6 => [network[0], network[1], network[2], network[3], network[7]],
        }
    }

    /// The same in the transport header: what is acknowledged, flags, window, options.
    fn transport_traits<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], [u8; 4], &'a [u8]) {
        let header = &bytes[self.transport..self.data];
        let flags = header[13] & !(CWR | FIN | PSH);
        (&header[8..12], [header[12], flags, header[14], header[15]], &header[CHECKSUM_AT + 2..])
    }
}

/// Frames of one flow that become one; a chain of one stays what it is.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    first: u8,
    last: u8,
    count: u8,
    /// May another one be joined?
    open: bool,
    verified: bool,
    segment: Segment,
    /// Data of the first one, and of all.
    size: usize,
    data: usize,
    /// By how much the identification grows, when that is known.
    step: Option<u16>,
    /// Flags of the last one.
    flags: u8,
}

impl Chain {
    /// Position of the first frame.
    #[must_use]
    pub fn first(&self) -> usize {
        usize::from(self.first)
    }

    /// How many frames it has.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    fn begin(position: usize, segment: Segment, size: usize) -> Self {
        Self {
            first: position as u8,
            last: position as u8,
            count: 1,
            open: segment.flags & (FIN | PSH) == 0,
            verified: false,
            segment,
            size,
            data: size,
            step: None,
            flags: segment.flags,
        }
    }

    /// The identification of the next one may be that of the first plus this.
    fn step_to(&self, next: &Segment, may_stay: bool) -> Result<Option<u16>, Refusal> {
        if next.version == Version::V6 {
            return Ok(None);
        }
        let grown = next.identification.wrapping_sub(self.segment.identification);
        let one_by_one = grown == u16::from(self.count);
        let stays = may_stay && grown == 0;
        match self.step {
            None | Some(1) if one_by_one => Ok(Some(1)),
            None | Some(0) if stays => Ok(Some(0)),
            _ => Err(Refusal::Identification),
        }
    }
}

/// Plans which frames of a batch become one. Keeps its memory from batch to batch.
#[derive(Debug)]
pub struct Joiner {
    wanted: Offloads,
    chains: Vec<Chain>,
    /// The frame after each one in its chain.
    next: [u8; BATCH],
}

impl Default for Joiner {
    fn default() -> Self {
        Self { wanted: Offloads::NONE, chains: Vec::with_capacity(BATCH), next: [0; BATCH] }
    }
}

impl Joiner {
    /// Forget the batch before; the next one is for a peer with these offloads.
    pub fn restart(&mut self, wanted: Offloads) {
        self.wanted = wanted;
        self.chains.clear();
    }

    /// The chains, in the order in which they are to go out.
    #[must_use]
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// Add the frame at `position`, the one after those that were added before, to a chain; or begin one, and say why.
    ///
    /// # Errors
    /// [`Refusal`]; the frame is the only one of its chain so far.
    pub fn add(&mut self, position: usize, frames: &[FrameRef<'_>]) -> Result<(), Refusal> {
        let result = self.try_to_join(position, frames);
        if let Err((_, chain)) = result {
            self.chains.push(chain);
        }
        result.map_err(|(refusal, _)| refusal)
    }

    fn try_to_join(&mut self, position: usize, frames: &[FrameRef<'_>]) -> Result<(), (Refusal, Chain)> {
        if !self.wanted.tso4 && !self.wanted.tso6 {
            return Err((Refusal::NotWanted, alone(position)));
        }
        let frame = frames[position];
        let segment = parse(frame).map_err(|refusal| {
            if refusal != Refusal::NotTcp {
                // It may belong to any flow, and nothing may overtake it.
                self.chains.iter_mut().for_each(|chain| chain.open = false);
            }
            (refusal, alone(position))
        })?;
        let wanted = match segment.version {
            Version::V4 => self.wanted.tso4,
            Version::V6 => self.wanted.tso6,
        };
        if !wanted {
            return Err((Refusal::NotWanted, alone(position)));
        }
        let flow = segment.flow(frame.ethernet());
        let mut open = self.chains.iter_mut().filter(|chain| chain.open);
        let before = open.rfind(|chain| {
            chain.segment.version == segment.version
                && chain.segment.flow(frames[chain.first()].ethernet()) == flow
        });
        if let Err(refusal) = segment.check(frame) {
            if let Some(chain) = before {
                chain.open = false;
            }
            return Err((refusal, alone(position)));
        }
        let size = frame.ethernet().len() - segment.data;
        let Some(chain) = before else {
            return Err((Refusal::First, Chain::begin(position, segment, size)));
        };
        if !self.wanted.wants_segments_of(chain.segment.data as u16, chain.size as u16) {
            chain.open = false;
            return Err((Refusal::Short, Chain::begin(position, segment, size)));
        }
        match join(chain, &segment, size, frame, frames[chain.first()]) {
            Ok(()) => {
                self.next[usize::from(chain.last)] = position as u8;
                chain.last = position as u8;
                Ok(())
            }
            Err(refusal) => {
                chain.open = false;
                Err((refusal, Chain::begin(position, segment, size)))
            }
        }
    }

    /// Append the super-frame that `chain` of these frames makes to `out`, behind its virtio-net header.
    pub fn write(&self, chain: &Chain, frames: &[FrameRef<'_>], out: &mut Vec<u8>) {
        let segment = &chain.segment;
        let gso_type = match segment.version {
            Version::V4 => GSO_TCPV4,
            Version::V6 => GSO_TCPV6,
        };
        let header = VnetHeader {
            flags: FLAG_NEEDS_CSUM,
            gso_type: gso_type | if segment.flags & CWR == 0 { 0 } else { GSO_ECN },
            hdr_len: segment.data as u16,
            gso_size: chain.size as u16,
            csum_start: segment.transport as u16,
            csum_offset: CHECKSUM_AT as u16,
            num_buffers: 0,
        };
        out.extend_from_slice(&header.to_bytes());
        let start = out.len();
        let mut position = chain.first();
        out.extend_from_slice(frames[position].ethernet());
        for _ in 1..chain.count {
            position = usize::from(self.next[position]);
            out.extend_from_slice(&frames[position].ethernet()[segment.data..]);
        }
        let (joined, layers) = (&mut out[start..], segment.layers());
        layers.set_network_len(joined);
        joined[segment.transport + 13] |= chain.flags & (FIN | PSH);
        let unfinished = layers.pseudo_header(joined, joined.len() - segment.transport).folded();
        joined[segment.transport + CHECKSUM_AT..][..2].copy_from_slice(&unfinished.to_be_bytes());
    }
}

/// A chain that nothing is joined to.
fn alone(position: usize) -> Chain {
    let segment =
        Segment { version: Version::V4, transport: 0, data: 0, sequence: 0, flags: 0, identification: 0 };
    Chain { open: false, ..Chain::begin(position, segment, 0) }
}

/// Note in `chain` that this segment is its next one, if it is.
fn join(
    chain: &mut Chain,
    segment: &Segment,
    size: usize,
    frame: FrameRef<'_>,
    first: FrameRef<'_>,
) -> Result<(), Refusal> {
    let (bytes, first_bytes) = (frame.ethernet(), first.ethernet());
    let traits = segment.network_traits(bytes);
    if traits != chain.segment.network_traits(first_bytes) {
        return Err(Refusal::NetworkHeader);
    }
    if segment.sequence != chain.segment.sequence.wrapping_add(chain.data as u32) {
        return Err(Refusal::Sequence);
    }
    if segment.flags & CWR != 0 {
        return Err(Refusal::Reduced);
    }
    if segment.data != chain.segment.data
        || segment.transport_traits(bytes) != chain.segment.transport_traits(first_bytes)
    {
        return Err(Refusal::TransportHeader);
    }
    if size > chain.size {
        return Err(Refusal::Larger);
    }
    if chain.segment.data + chain.data + size > LONGEST {
        return Err(Refusal::Full);
    }
    let step = chain.step_to(segment, traits[1] & MUST_NOT_FRAGMENT != 0)?;
    if !chain.verified {
        chain.segment.verify(first)?;
        chain.verified = true;
    }
    segment.verify(frame)?;
    chain.step = step;
    chain.count += 1;
    chain.data += size;
    chain.flags = segment.flags;
    chain.open = size == chain.size && segment.flags & (FIN | PSH) == 0;
    Ok(())
}
