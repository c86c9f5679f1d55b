//! Super-frames through the loop: passed on, cut for those who take none, made of what comes in one batch.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{engine, expect, expect_drops, expect_with_headers, mac, plug, until};
use vde_engine::Engine;
use vde_engine::offload::checksum::Sum;
use vde_engine::port::channel::{Peer, channel};
use vde_engine::stats::DropReason;
use vde_engine::vnet_header::{FLAG_NEEDS_CSUM, GSO_TCPV4, Offloads, VnetHeader};

const HEADERS: usize = 14 + 20 + 20;
const SIZE: usize = 1_448;

/// A port whose peer takes everything.
fn able_plug(engine: &Engine, port: u16) -> Peer {
    let (able, peer) = channel(100_000).unwrap();
    support::attach(engine, port, able.with_offloads(Offloads::ALL));
    peer
}

/// A finished TCP segment that brings `len` bytes from `sequence` on.
fn segment(to: [u8; 6], from: [u8; 6], id: u8, sequence: u32, len: usize) -> Vec<u8> {
    let total = (40 + len as u16).to_be_bytes();
    let mut frame = [&to[..], &from, &[8, 0]].concat();
    frame.extend([0x45, 0, total[0], total[1], 0, id, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = Sum::default().with(&frame[14..]).checksum().to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame.extend([0, 7, 0, 9]);
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.extend((0..len).map(|at| (sequence as usize + at) as u8));
    let pseudo = Sum::default().with(&frame[26..34]).with_word(6).with_word((frame.len() - 34) as u16);
    let sum = pseudo.with(&frame[34..]).checksum().to_be_bytes();
    frame[50..52].copy_from_slice(&sum);
    frame
}

fn segments(to: [u8; 6], from: [u8; 6], count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| segment(to, from, index as u8, (index * SIZE) as u32, SIZE)).collect()
}

fn tso(gso_size: u16) -> VnetHeader {
    let (csum_start, csum_offset) = (34, 16);
    VnetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        gso_size,
        csum_start,
        csum_offset,
        ..VnetHeader::default()
    }
}

#[test]
fn a_super_frame_is_cut_for_those_who_take_none() {
    let engine = engine();
    let ((_, sender), (_, plain)) = (plug(&engine, 1, 100), plug(&engine, 2, 1_000));
    let able = able_plug(&engine, 3);
    // More segments than one call writes, twice, with something common between.
    let whole = segment([0xff; 6], mac(1), 0, 0, 50_000);
    let small = segment([0xff; 6], mac(1), 9, 50_000, 10);
    for (header, frame) in [(tso(500), &whole), (VnetHeader::default(), &small), (tso(1_448), &whole)] {
        sender.send_with_header(header, std::slice::from_ref(frame));
    }
    let passed = expect_with_headers(&able, 3);
    assert_eq!(passed[0], (tso(500), whole.clone()));
    assert_eq!(passed[2], (tso(1_448), whole.clone()));
    let cut = expect(&plain, 100 + 1 + 35);
    assert_eq!(cut[100], small);
    for (frames, size) in [(&cut[..100], 500), (&cut[101..], 1_448)] {
        let data: Vec<u8> = frames.iter().flat_map(|frame| frame[HEADERS..].to_vec()).collect();
        assert!(data == whole[HEADERS..]);
        assert!(frames.iter().all(|frame| frame.len() <= HEADERS + size));
        assert_eq!(frames[1], segment([0xff; 6], mac(1), 1, size as u32, size));
    }
}

#[test]
fn what_a_slow_peer_did_not_take_of_a_super_frame_is_queued() {
    let engine = engine();
    let ((_, sender), (_, plain)) = (plug(&engine, 1, 100), plug(&engine, 2, 3));
    let whole = segment([0xff; 6], mac(1), 0, 0, 50_000);
    sender.send_with_header(tso(500), std::slice::from_ref(&whole));
    let mut data = Vec::new();
    until("all has come", || {
        data.extend(plain.take().into_iter().flat_map(|(_, frame)| frame[HEADERS..].to_vec()));
        (data.len() >= 50_000).then_some(())
    });
    assert!(data == whole[HEADERS..]);
}

#[test]
fn a_super_frame_that_does_not_fit_its_header_costs_its_sender() {
    let engine = engine();
    let ((id, sender), (_, plain)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));
    sender.send_with_header(tso(0), &[segment([0xff; 6], mac(1), 0, 0, 5_000)]);
    sender.send_with_header(tso(1_000), &[support::frame([0xff; 6], mac(1))]);
    expect_drops(&engine, id, DropReason::BadSuperFrame, 2);
    assert!(plain.take().is_empty());
}

#[test]
fn segments_of_one_batch_become_one_for_those_who_take_it() {
    let engine = engine();
    let ((_, sender), (_, plain)) = (plug(&engine, 1, 100), plug(&engine, 2, 1_000));
    let able = able_plug(&engine, 3);
    let frames = segments([0xff; 6], mac(1), 40);
    // The first ones make the endpoint's turns grow.
    until("some came as one", || {
        sender.send(&frames);
        assert!(expect(&plain, 40) == frames);
        able.take().iter().any(|(header, _)| header.gso_type == GSO_TCPV4).then_some(())
    });
}
