//! Joining, and cutting what was joined.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::coalesce::{Chain, Joiner, Refusal};
use super::layers;
use super::segment::Segments;
use super::tcp_flags::{ACK, CWR, FIN, PSH, RST, SYN, URG};
use super::testing::{Packet, behind, refs};
use crate::pool::{BATCH, FrameRef};
use crate::vnet_header::{FLAG_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, LEN, Need, Offloads, VnetHeader};

fn plan(frames: &[FrameRef<'_>]) -> (Joiner, Vec<Result<(), Refusal>>) {
    let mut joiner = Joiner::default();
    joiner.restart(Offloads::ALL);
    let verdicts = (0..frames.len()).map(|position| joiner.add(position, frames)).collect();
    (joiner, verdicts)
}

/// The frames in the shape in which a peer with offloads gets them.
fn joined(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let frames = refs(frames);
    let (joiner, _) = plan(&frames);
    let write = |chain: &Chain| {
        if chain.count() == 1 {
            return frames[chain.first()].with_header().to_vec();
        }
        let mut out = Vec::new();
        joiner.write(chain, &frames, &mut out);
        out
    };
    joiner.chains().iter().map(write).collect()
}

fn cut(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for frame in refs(frames) {
        if frame.header().need() != Need::Segmentation {
            all.push(frame.with_header().to_vec());
            continue;
        }
        let segments = Segments::of(&frame.header(), frame.ethernet()).unwrap();
        for index in 0..segments.count() {
            all.push(Vec::new());
            segments.write(index, all.last_mut().unwrap());
        }
    }
    all
}

/// `count` segments in a row.
fn stream(v6: bool, count: usize, size: usize) -> Vec<Packet> {
    (0..count)
        .map(|index| Packet {
            identification: 65_530_u16.wrapping_add(index as u16),
            ..Packet::new(v6, 4_294_960_000_u32.wrapping_add((index * size) as u32), size)
        })
        .collect()
}

#[test]
fn a_stream_becomes_one_super_frame_with_the_header_of_one() {
    for v6 in [false, true] {
        let mut packets = stream(v6, 10, 1_448);
        packets[9].payload.truncate(100);
        packets[9].flags |= PSH;
        let frames: Vec<_> = packets.iter().map(Packet::tcp).collect();
        let result = joined(&frames);
        let [whole] = &result[..] else { panic!("{} frames", result.len()) };
        let header = FrameRef::new(whole).header();
        let transport = if v6 { 54 } else { 34 };
        assert_eq!(header.flags, FLAG_NEEDS_CSUM);
        assert_eq!(header.gso_type, if v6 { GSO_TCPV6 } else { GSO_TCPV4 });
        assert_eq!(usize::from(header.hdr_len), transport + 32);
        assert_eq!((header.gso_size, header.csum_offset), (1_448, 16));
        assert_eq!(usize::from(header.csum_start), transport);
        assert_eq!(whole.len(), LEN + transport + 32 + 9 * 1_448 + 100);
        assert_eq!(cut(&result), frames);
    }
}

#[test]
fn each_refusal_has_its_name() {
    let plain = || stream(false, 2, 1_000).remove(1);
    let six = || stream(true, 2, 1_000).remove(1);
    let trusted = |offset| VnetHeader {
        flags: FLAG_NEEDS_CSUM,
        csum_start: 34,
        csum_offset: offset,
        ..VnetHeader::default()
    };
    let broken = |at: usize, mut bytes: Vec<u8>| {
        bytes[LEN + at] ^= 0x10;
        bytes
    };
    let cases = [
        (plain().tcp(), Ok(())),
        (Packet { flags: ACK | FIN | PSH, ..plain() }.tcp(), Ok(())),
        (Packet { payload: vec![7], ..plain() }.tcp(), Ok(())),
        (six().tcp(), Err(Refusal::First)),
        (plain().udp(), Err(Refusal::NotTcp)),
        (plain().tcp()[..LEN + 40].to_vec(), Err(Refusal::NotTcp)),
        (Packet { tags: 1, ..plain() }.tcp(), Err(Refusal::Wrapped)),
        (Packet { fragment: 0x2000, ..plain() }.tcp(), Err(Refusal::Fragment)),
        (behind(VnetHeader { gso_type: 1, ..VnetHeader::default() }, &plain().tcp()), Err(Refusal::SuperFrame)),
        (Packet { padding: 6, ..plain() }.tcp(), Err(Refusal::Length)),
        (Packet { payload: vec![], padding: 6, ..plain() }.tcp(), Err(Refusal::NoData)),
        (Packet { flags: ACK | SYN, ..plain() }.tcp(), Err(Refusal::Flags)),
        (Packet { flags: ACK | RST, ..plain() }.tcp(), Err(Refusal::Flags)),
        (Packet { flags: ACK | URG, ..plain() }.tcp(), Err(Refusal::Flags)),
        (Packet { flags: 0, ..plain() }.tcp(), Err(Refusal::Flags)),
        (broken(500, plain().tcp()), Err(Refusal::Checksum)),
        (broken(24, plain().tcp()), Err(Refusal::Checksum)),
        (behind(trusted(16), &broken(500, plain().tcp())), Ok(())),
        (behind(trusted(6), &plain().tcp()), Err(Refusal::Checksum)),
        (Packet { port: 1, ..plain() }.tcp(), Err(Refusal::First)),
        (Packet { kind: 3, ..plain() }.tcp(), Err(Refusal::NetworkHeader)),
        (Packet { hops: 63, ..plain() }.tcp(), Err(Refusal::NetworkHeader)),
        (Packet { fragment: 0, ..plain() }.tcp(), Err(Refusal::NetworkHeader)),
        (Packet { identification: 9, ..plain() }.tcp(), Err(Refusal::Identification)),
        (Packet { sequence: 9, ..plain() }.tcp(), Err(Refusal::Sequence)),
        (Packet { flags: ACK | CWR, ..plain() }.tcp(), Err(Refusal::Reduced)),
        (Packet { acknowledged: 78, ..plain() }.tcp(), Err(Refusal::TransportHeader)),
        (Packet { window: 9, ..plain() }.tcp(), Err(Refusal::TransportHeader)),
        (Packet { flags: ACK | 0x40, ..plain() }.tcp(), Err(Refusal::TransportHeader)),
        (Packet { options: vec![1; 12], ..plain() }.tcp(), Err(Refusal::TransportHeader)),
        (Packet { options: vec![], ..plain() }.tcp(), Err(Refusal::TransportHeader)),
        (Packet { payload: vec![7; 1_001], ..plain() }.tcp(), Err(Refusal::Larger)),
    ];
    // These have tests of their own, below.
    let mut seen = HashSet::from([Refusal::Full, Refusal::NotWanted, Refusal::Short]);
    for (number, (bytes, expected)) in cases.into_iter().enumerate() {
        let frames = [stream(false, 1, 1_000).remove(0).tcp(), bytes];
        let (_, verdicts) = plan(&refs(&frames));
        assert_eq!(verdicts, [Err(Refusal::First), expected], "case {number}");
        seen.extend(expected.err());
    }
    assert_eq!(seen.len(), 18);
}

#[test]
fn a_super_frame_is_no_longer_than_a_packet() {
    let packets = stream(true, 60, 1_408);
    let frames: Vec<_> = packets.iter().map(Packet::tcp).collect();
    let (joiner, verdicts) = plan(&refs(&frames));
    assert_eq!(joiner.chains().iter().map(Chain::count).collect::<Vec<_>>(), [46, 14]);
    assert_eq!(verdicts[46], Err(Refusal::Full));
    assert_eq!(cut(&joined(&frames)), frames);
}

#[test]
fn only_what_the_peer_takes_is_made() {
    for (wanted, v4, v6) in [
        (Offloads::NONE, 2, 2),
        (Offloads { tso4: true, ..Offloads::NONE }, 1, 2),
        (Offloads { tso6: true, ..Offloads::NONE }, 2, 1),
    ] {
        for (is_v6, chains) in [(false, v4), (true, v6)] {
            let frames: Vec<_> = stream(is_v6, 2, 1_000).iter().map(Packet::tcp).collect();
            let mut joiner = Joiner::default();
            joiner.restart(wanted);
            let verdict = (0..2).map(|position| joiner.add(position, &refs(&frames))).last();
            assert_eq!(joiner.chains().len(), chains);
            assert_eq!(verdict, Some(if chains == 1 { Ok(()) } else { Err(Refusal::NotWanted) }));
        }
    }
}

#[test]
fn segments_that_the_peer_would_make_longer_are_not_joined() {
    for (size, chains, verdict) in [(1_448, 1, Ok(())), (1_447, 3, Err(Refusal::Short))] {
        let frames: Vec<_> = stream(false, 3, size).iter().map(Packet::tcp).collect();
        let mut joiner = Joiner::default();
        joiner.restart(Offloads { full_packet: 1_500, ..Offloads::ALL });
        let verdicts: Vec<_> = (0..3).map(|position| joiner.add(position, &refs(&frames))).collect();
        assert_eq!(joiner.chains().len(), chains);
        assert_eq!(verdicts, [Err(Refusal::First), verdict, verdict]);
    }
}

#[test]
fn a_push_or_a_short_segment_ends_a_super_frame() {
    for change in
        [|packet: &mut Packet| packet.flags |= PSH, |packet: &mut Packet| packet.payload.truncate(999)]
    {
        let mut packets = stream(false, 4, 1_000);
        change(&mut packets[1]);
        packets[2].sequence = packets[1].sequence.wrapping_add(packets[1].payload.len() as u32);
        packets[3].sequence = packets[2].sequence.wrapping_add(1_000);
        let frames: Vec<_> = packets.iter().map(Packet::tcp).collect();
        let (joiner, verdicts) = plan(&refs(&frames));
        assert_eq!(joiner.chains().iter().map(Chain::count).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(verdicts[2], Err(Refusal::First));
        assert_eq!(cut(&joined(&frames)), frames);
    }
}

#[test]
fn an_acknowledgement_is_not_overtaken_by_what_follows_it() {
    let mut packets = stream(false, 4, 1_000);
    packets.insert(2, Packet { payload: vec![], acknowledged: 900, ..packets[2].clone() });
    let frames: Vec<_> = packets.iter().map(Packet::tcp).collect();
    let (joiner, _) = plan(&refs(&frames));
    assert_eq!(joiner.chains().iter().map(Chain::count).collect::<Vec<_>>(), [2, 1, 2]);
}

#[test]
fn an_identification_may_stay_where_fragments_are_forbidden() {
    for (fragment, chains) in [(0x4000, 1), (0, 3)] {
        let mut packets = stream(false, 3, 1_000);
        packets.iter_mut().for_each(|packet| (packet.identification, packet.fragment) = (0, fragment));
        let frames: Vec<_> = packets.iter().map(Packet::tcp).collect();
        assert_eq!(joined(&frames).len(), chains);
    }
    // Neither the one nor the other.
    let mut packets = stream(false, 3, 1_000);
    (0..3).for_each(|index| packets[index].identification = [5, 6, 6][index]);
    assert_eq!(joined(&packets.iter().map(Packet::tcp).collect::<Vec<_>>()).len(), 2);
}

#[test]
fn a_reduced_window_is_told_by_the_first_segment_alone() {
    let mut packets = stream(false, 3, 1_000);
    packets[0].flags |= CWR;
    let frames: Vec<_> = packets.iter().map(Packet::tcp).collect();
    let whole = joined(&frames);
    assert_eq!(FrameRef::new(&whole[0]).header().gso_type, GSO_TCPV4 | GSO_ECN);
    assert_eq!(cut(&whole), frames);
}

fn port_of(frame: &[u8]) -> u16 {
    let transport = LEN + if frame[LEN + 12] == 8 { 34 } else { 54 };
    u16::from_be_bytes([frame[transport + 2], frame[transport + 3]])
}

fn by_flow(frames: &[Vec<u8>]) -> HashMap<u16, Vec<&[u8]>> {
    let mut flows: HashMap<u16, Vec<&[u8]>> = HashMap::new();
    frames.iter().for_each(|frame| flows.entry(port_of(frame)).or_default().push(frame));
    flows
}

/// A step of a flow: which one, how many bytes, which flags, and whether something is odd about it.
fn step() -> impl Strategy<Value = (usize, usize, u8, u8)> {
    let len = prop_oneof![4 => Just(1_000_usize), 1 => 0_usize..1_400];
    let flags = prop_oneof![6 => Just(ACK), 1 => Just(ACK | PSH), 1 => Just(ACK | CWR), 1 => Just(ACK | FIN)];
    (0_usize..3, len, flags, 0_u8..12)
}

proptest! {
    #[test]
    fn cutting_gives_back_each_flow_as_it_was(steps in prop::collection::vec(step(), 1..=BATCH)) {
        let mut flows: Vec<_> = (0..3_u16).map(|port| Packet { port, ..Packet::new(port == 2, 9, 0) }).collect();
        let mut frames = Vec::new();
        for (flow, len, flags, oddity) in steps {
            let packet = &mut flows[flow];
            packet.sequence = packet.sequence.wrapping_add(packet.payload.len() as u32);
            packet.payload = (0..len).map(|at| at as u8).collect();
            packet.identification = packet.identification.wrapping_add(1);
            packet.flags = flags;
            match oddity {
                0 => packet.acknowledged += 1,
                1 => packet.sequence += 1,
                2 => packet.window += 1,
                _ => {}
            }
            let mut bytes = packet.tcp();
            if oddity == 3 {
                *bytes.last_mut().unwrap() ^= 1;
            }
            frames.push(bytes);
        }
        let back = cut(&joined(&frames));
        prop_assert_eq!(by_flow(&back), by_flow(&frames));
    }

    #[test]
    fn joining_gives_back_what_was_cut(v6: bool, len in 1_001_usize..46_000, size in 1_000_u16..1_460, push: bool) {
        let packet = Packet { flags: if push { ACK | PSH } else { ACK }, ..Packet::new(v6, 7, len) };
        let (kind, transport) = if v6 { (GSO_TCPV6, 54) } else { (GSO_TCPV4, 34) };
        let header = VnetHeader {
            flags: FLAG_NEEDS_CSUM,
            gso_type: kind,
            gso_size: size,
            hdr_len: transport + 32,
            csum_start: transport,
            csum_offset: 16,
            num_buffers: 0,
        };
        prop_assume!(len > usize::from(size));
        let mut whole = behind(header, &packet.tcp());
        // The pseudo-header's sum, as whoever leaves the rest to hardware writes it.
        let start = LEN + usize::from(transport);
        let layers = layers::find(&whole[LEN..]).unwrap();
        let sum = layers.pseudo_header(&whole[LEN..], whole.len() - start).folded();
        whole[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
        prop_assert_eq!(joined(&cut(std::slice::from_ref(&whole))), [whole]);
    }

    #[test]
    fn nothing_makes_it_panic(
        changes in prop::collection::vec((0_usize..8, 0_usize..90, any::<u8>()), 0..12),
        lens in prop::collection::vec(0_usize..400, 8), v6: bool,
    ) {
        let mut frames: Vec<_> = stream(v6, 8, 300).iter().map(Packet::tcp).collect();
        for (frame, at, value) in changes {
            frames[frame][at] = value;
        }
        for (frame, len) in frames.iter_mut().zip(lens) {
            if len < 100 {
                frame.truncate(LEN + len);
            }
        }
        joined(&frames);
    }
}
