//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little-endian. Pure: bytes in, bytes out, time is an argument.
//!
//! What is written: a section header, a description of each interface before its first packet, packets with their
//! direction and what was lost before them, statistics of each interface at the end. Packets are made in two pieces,
//! before and behind their bytes, so that these are copied once.

/// Type of a section header block; it reads the same in both byte orders.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// How a reader finds out the byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Ethernet, by the list of link types at tcpdump.org.
const LINKTYPE_ETHERNET: u16 = 1;

// Options, each of its block.
const END_OF_OPTIONS: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;
const ISB_USRDELIV: u16 = 8;

/// Time stamps count units of 10 to the minus this.
const NANOSECONDS: u8 = 9;

/// Longest text in an option. Chosen: longer than any name here, far less than an option may hold.
const LONGEST_TEXT: usize = 512;

/// Bytes of a packet's block before the packet.
pub const PACKET_HEAD: usize = 28;

/// Bytes behind it at most: padding, flags, drops, the end of the options, the length.
pub const PACKET_TAIL: usize = 3 + 8 + 12 + 4 + 4;

/// Which way a packet went, as seen from the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer sent it.
    Inbound,
    /// It is for the peer.
    Outbound,
}

/// What stands in a packet's block besides the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of its interface, counted from 0 in the order of the descriptions.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Bytes that are kept of it.
    pub kept: u32,
    /// Bytes that it had.
    pub length: u32,
    /// Which way it went.
    pub direction: Direction,
    /// Packets of the interface that were lost since the one before.
    pub lost: u64,
}

impl Packet {
    /// The block's bytes before the packet.
    #[must_use]
    pub fn head(&self) -> [u8; PACKET_HEAD] {
        let words = [
            ENHANCED_PACKET,
            (PACKET_HEAD + self.kept as usize + self.tail_len()) as u32,
            self.interface,
            (self.time >> 32) as u32,
            self.time as u32,
            self.kept,
            self.length,
        ];
        let mut head = [0; PACKET_HEAD];
        for (place, word) in head.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        head
    }

    /// The block's bytes behind the packet: how many of them count.
    #[must_use]
    pub fn tail(&self) -> ([u8; PACKET_TAIL], usize) {
        let direction = match self.direction {
            Direction::Inbound => 1_u32,
            Direction::Outbound => 2,
        };
        let mut tail = [0; PACKET_TAIL];
        let mut at = padding(self.kept as usize);
        let mut put = |bytes: &[u8]| {
            tail[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&EPB_FLAGS.to_le_bytes());
        put(&4_u16.to_le_bytes());
        put(&direction.to_le_bytes());
        if self.lost > 0 {
            put(&EPB_DROPCOUNT.to_le_bytes());
            put(&8_u16.to_le_bytes());
            put(&self.lost.to_le_bytes());
        }
        put(&[0; 4]); // the end of the options
        put(&((PACKET_HEAD + self.kept as usize + self.tail_len()) as u32).to_le_bytes());
        (tail, at)
    }

    fn tail_len(&self) -> usize {
        padding(self.kept as usize) + 8 + if self.lost > 0 { 12 } else { 0 } + 4 + 4
    }
}

/// What an interface has seen since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that passed there.
    pub seen: u64,
    /// Those of them that the filter let through.
    pub accepted: u64,
    /// Those of these that are in the file.
    pub recorded: u64,
    /// Those for which there was no room.
    pub lost: u64,
}

/// What a file begins with: who wrote it.
#[must_use]
pub fn section_header(application: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(BYTE_ORDER.to_le_bytes());
    body.extend(1_u16.to_le_bytes()); // version 1.0
    body.extend(0_u16.to_le_bytes());
    body.extend(u64::MAX.to_le_bytes()); // the length of the section is not known
    text(SHB_USERAPPL, application, &mut body);
    block(SECTION_HEADER, body)
}

/// One more interface; of its packets at most `snaplen` bytes are kept.
#[must_use]
pub fn interface(name: &str, description: &str, snaplen: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(LINKTYPE_ETHERNET.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(snaplen.to_le_bytes());
    text(IF_NAME, name, &mut body);
    text(IF_DESCRIPTION, description, &mut body);
    option(IF_TSRESOL, &[NANOSECONDS], &mut body);
    block(INTERFACE_DESCRIPTION, body)
}

/// What interface `number` has seen until `time`.
#[must_use]
pub fn statistics(number: u32, time: u64, numbers: &Statistics) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(number.to_le_bytes());
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
    for (code, value) in [
        (ISB_IFRECV, numbers.seen),
        (ISB_IFDROP, numbers.lost),
        (ISB_FILTERACCEPT, numbers.accepted),
        (ISB_USRDELIV, numbers.recorded),
    ] {
        option(code, &value.to_le_bytes(), &mut body);
    }
    block(INTERFACE_STATISTICS, body)
}

/// Bytes that fill up to the next multiple of four.
const fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

fn text(code: u16, value: &str, body: &mut Vec<u8>) {
    let mut end = value.len().min(LONGEST_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    option(code, &value.as_bytes()[..end], body);
}

fn option(code: u16, value: &[u8], body: &mut Vec<u8>) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    body.resize(body.len() + padding(value.len()), 0);
}

/// A block with `body`, whose options are ended here.
fn block(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    option(END_OF_OPTIONS, &[], &mut body);
    let len = (body.len() + 12) as u32;
    let mut block = Vec::with_capacity(len as usize);
    block.extend(kind.to_le_bytes());
    block.extend(len.to_le_bytes());
    block.extend(body);
    block.extend(len.to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    /// The one block in `bytes`: its type, and what is between the two lengths.
    fn one_block(bytes: &[u8]) -> (u32, &[u8]) {
        let len = word(bytes, 4) as usize;
        assert_eq!(len, bytes.len(), "the first length");
        assert_eq!(len % 4, 0);
        assert_eq!(word(bytes, len - 4) as usize, len, "the second length");
        (word(bytes, 0), &bytes[8..len - 4])
    }

    fn options(mut bytes: &[u8]) -> HashMap<u16, Vec<u8>> {
        let mut found = HashMap::new();
        loop {
            let (code, len) = (word(bytes, 0) as u16, (word(bytes, 0) >> 16) as usize);
            bytes = &bytes[4..];
            if code == END_OF_OPTIONS {
                assert_eq!((len, bytes.len()), (0, 0), "nothing behind the end");
                return found;
            }
            assert!(found.insert(code, bytes[..len].to_vec()).is_none());
            bytes = &bytes[len.next_multiple_of(4)..];
        }
    }

    #[test]
    fn a_file_begins_with_its_section() {
        let bytes = section_header("vde_vmnet 1.2");
        let (kind, body) = one_block(&bytes);
        assert_eq!((kind, word(body, 0), word(body, 4)), (SECTION_HEADER, BYTE_ORDER, 1));
        assert_eq!(body[8..16], [0xff; 8]);
        assert_eq!(options(&body[16..])[&SHB_USERAPPL], b"vde_vmnet 1.2");
    }

    proptest! {
        #[test]
        fn an_interface_reads_back(name in ".{0,700}", description in ".{0,20}", snaplen: u32) {
            let bytes = interface(&name, &description, snaplen);
            let (kind, body) = one_block(&bytes);
            prop_assert_eq!((kind, word(body, 0), word(body, 4)), (INTERFACE_DESCRIPTION, 1, snaplen));
            let options = options(&body[8..]);
            let kept = std::str::from_utf8(&options[&IF_NAME]).unwrap();
            prop_assert!(name.starts_with(kept) && (kept == name || kept.len() > LONGEST_TEXT - 4));
            prop_assert_eq!(&options[&IF_DESCRIPTION], description.as_bytes());
            prop_assert_eq!(&options[&IF_TSRESOL], &[9]);
        }

        #[test]
        fn a_packet_reads_back(
            interface: u32,
            time: u64,
            data in prop::collection::vec(any::<u8>(), 0..200),
            more in 0_u32..70_000,
            outbound: bool,
            lost in prop_oneof![Just(0_u64), any::<u64>()],
        ) {
            let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
            let kept = data.len() as u32;
            let packet = Packet { interface, time, kept, length: kept + more, direction, lost };
            let (tail, count) = packet.tail();
            let bytes = [&packet.head()[..], &data, &tail[..count]].concat();
            let (kind, body) = one_block(&bytes);
            prop_assert_eq!((kind, word(body, 0)), (ENHANCED_PACKET, interface));
            prop_assert_eq!(u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)), time);
            prop_assert_eq!((word(body, 12), word(body, 16)), (kept, kept + more));
            prop_assert_eq!(&body[20..20 + data.len()], &data[..]);
            let options = options(&body[20 + data.len().next_multiple_of(4)..]);
            prop_assert_eq!(&options[&EPB_FLAGS], &[1 + u8::from(outbound), 0, 0, 0]);
            prop_assert_eq!(options.get(&EPB_DROPCOUNT).cloned(), (lost > 0).then(|| lost.to_le_bytes().to_vec()));
        }

        #[test]
        fn statistics_read_back(number: u32, time: u64, seen: u64, accepted: u64, recorded: u64, lost: u64) {
            let bytes = statistics(number, time, &Statistics { seen, accepted, recorded, lost });
            let (kind, body) = one_block(&bytes);
            prop_assert_eq!((kind, word(body, 0)), (INTERFACE_STATISTICS, number));
            let options = options(&body[12..]);
            for (code, value) in
                [(ISB_IFRECV, seen), (ISB_IFDROP, lost), (ISB_FILTERACCEPT, accepted), (ISB_USRDELIV, recorded)]
            {
                prop_assert_eq!(&options[&code], &value.to_le_bytes());
            }
        }
    }
}
