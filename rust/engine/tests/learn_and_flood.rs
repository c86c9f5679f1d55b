//! Who gets which frame, through the whole engine.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::*;
use vde_engine::frame::MAX_LEN;
use vde_engine::port::channel::channel;
use vde_engine::stats::DropReason;
use vde_engine::vnet_header::{FLAG_NEEDS_CSUM, Offloads, VnetHeader};
use vde_engine::{Engine, EngineConfig, Event};

#[test]
fn an_unknown_station_is_looked_for_once() {
    let engine = engine();
    let ((_, one), (_, two), (_, three)) =
        (plug(&engine, 1, 100), plug(&engine, 2, 100), plug(&engine, 3, 100));
    one.send(&[frame(mac(2), mac(1))]);
    assert_eq!(expect(&two, 1), [frame(mac(2), mac(1))]);
    assert_eq!(expect(&three, 1), [frame(mac(2), mac(1))]);
    two.send(&[frame(mac(1), mac(2))]);
    assert_eq!(expect(&one, 1), [frame(mac(1), mac(2))]);
    one.send(&[frame(mac(2), mac(1))]);
    expect(&two, 1);
    assert!(three.take().is_empty());
}

#[test]
fn a_mixed_batch_reaches_everybody_in_order() {
    let engine = engine();
    let plugs: Vec<_> = (1..=3).map(|port| plug(&engine, port, 1000).1).collect();
    for (number, peer) in (1..).zip(&plugs) {
        peer.send(&[frame(BROADCAST, mac(number))]);
    }
    plugs.iter().for_each(|peer| drop(expect(peer, 2)));
    let batch: Vec<_> = (0..90_u8)
        .map(|mark| {
            let to = [mac(2), mac(3), BROADCAST][usize::from(mark) % 3];
            frame_of(to, mac(1), 60, mark)
        })
        .collect();
    plugs[0].send(&batch);
    for (peer, own) in [(&plugs[1], mac(2)), (&plugs[2], mac(3))] {
        let expected: Vec<_> =
            batch.iter().filter(|frame| frame[..6] == own || frame[..6] == BROADCAST).cloned().collect();
        assert_eq!(expect(peer, 60), expected);
    }
    assert!(plugs[0].take().is_empty());
}

#[test]
fn siblings_share_a_port_and_hear_nothing_of_each_other() {
    let engine = engine();
    let ((_, one), (sibling_id, sibling), (_, other)) =
        (plug(&engine, 1, 100), plug(&engine, 1, 100), plug(&engine, 2, 100));
    one.send(&[frame(BROADCAST, mac(1))]);
    expect(&other, 1);
    other.send(&[frame(mac(1), mac(9))]);
    expect(&one, 1);
    expect(&sibling, 1);
    sibling.send(&[frame(mac(1), mac(2))]);
    expect_drops(&engine, sibling_id, DropReason::SamePort, 1);
    assert!(one.take().is_empty());
}

#[test]
fn a_receive_only_endpoint_brings_unicast_and_gets_nothing() {
    let engine = engine();
    let (_, uplink) = plug(&engine, 0, 100);
    let (io, extra) = channel(100).unwrap();
    let extra_id = attach_as(&engine, 0, io, true);
    let (_, guest) = plug(&engine, 1, 100);
    guest.send(&[frame(BROADCAST, mac(1))]);
    expect(&uplink, 1);
    extra.send(&[frame(BROADCAST, mac(7)), frame(mac(1), mac(8))]);
    assert_eq!(expect(&guest, 1), [frame(mac(1), mac(8))]);
    expect_drops(&engine, extra_id, DropReason::GroupAddress, 1);
    guest.send(&[frame(mac(8), mac(1))]);
    expect(&uplink, 1);
    assert!(extra.take().is_empty());
    let reported: Vec<_> = engine.take_events().into_iter().collect();
    assert!(
        reported
            .iter()
            .all(|event| !matches!(event, Event::FirstMac { endpoint, .. } if *endpoint == extra_id))
    );
}

#[test]
fn what_a_sender_does_wrong_counts_at_the_sender() {
    let runt = vec![0x52; 13];
    let oversized = frame_of(mac(2), mac(1), MAX_LEN + 1, 0);
    let table = [
        ("runt", runt, DropReason::Runt),
        ("oversized", oversized, DropReason::Oversized),
        ("group source", frame(mac(2), BROADCAST), DropReason::BadSource),
        ("nobody there", frame(mac(2), mac(1)), DropReason::NoDestination),
    ];
    for (name, bytes, reason) in table {
        let engine = engine();
        let (id, peer) = plug(&engine, 1, 100);
        peer.send(&[bytes]);
        expect_drops(&engine, id, reason, 1);
        assert_eq!(counters(&engine, id).rx_frames, 1, "{name}");
    }
}

#[test]
fn an_empty_datagram_is_nothing() {
    let engine = engine();
    let ((id, one), (_, two)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));
    one.send(&[vec![], frame(BROADCAST, mac(1)), vec![]]);
    expect(&two, 1);
    let counters = counters(&engine, id);
    assert_eq!((counters.rx_frames, counters.dropped_frames()), (1, 0));
}

#[test]
fn the_longest_frame_passes() {
    let engine = engine();
    let ((_, one), (_, two)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));
    let longest = frame_of(BROADCAST, mac(1), MAX_LEN, 9);
    one.send(std::slice::from_ref(&longest));
    assert_eq!(expect(&two, 1), [longest]);
}

#[test]
fn a_silent_station_is_forgotten() {
    let ageing = std::time::Duration::from_millis(20);
    let engine = Engine::start(EngineConfig { fdb_ageing: ageing, ..EngineConfig::default() }).unwrap();
    let (_, one) = plug(&engine, 1, 100);
    one.send(&[frame(mac(9), mac(1))]);
    let stations = || engine.stations().unwrap().wait(LONG).unwrap().unwrap();
    until("the station is known", || (stations().len() == 1).then_some(()));
    until("the station is forgotten", || stations().is_empty().then_some(()));
}

#[test]
fn an_unfinished_checksum_is_finished_for_those_who_need_it() {
    let engine = engine();
    let (_, sender) = plug(&engine, 1, 100);
    let (able, able_peer) = channel(100).unwrap();
    attach(&engine, 2, able.with_offloads(Offloads::ALL));
    let header = VnetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 14, csum_offset: 2, ..VnetHeader::default() };
    let unfinished = frame_of(BROADCAST, mac(1), 60, 5);

    sender.send_with_header(header, std::slice::from_ref(&unfinished));
    assert_eq!(expect_with_headers(&able_peer, 1), [(header, unfinished.clone())], "passed on as it was");

    let (_, plain_peer) = plug(&engine, 3, 100);
    sender.send_with_header(header, std::slice::from_ref(&unfinished));
    let mut finished = unfinished;
    finished[16..18].copy_from_slice(&(!5_u16).to_be_bytes());
    for peer in [&able_peer, &plain_peer] {
        assert_eq!(expect_with_headers(peer, 1), [(VnetHeader::default(), finished.clone())]);
    }
}

#[test]
fn an_unfinished_checksum_outside_the_frame_goes_nowhere() {
    let engine = engine();
    let ((id, sender), (_, receiver)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));
    let header = VnetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 59, csum_offset: 0, ..VnetHeader::default() };
    sender.send_with_header(header, &[frame(BROADCAST, mac(1))]);
    expect_drops(&engine, id, DropReason::BadChecksumOffset, 1);
    assert!(receiver.take().is_empty());
}

#[test]
fn new_addresses_are_reported_a_few_times() {
    let engine = engine();
    let ((id, one), (_, two)) = (plug(&engine, 4, 100), plug(&engine, 2, 100_000));
    one.send(&(0..50).map(|number| frame(BROADCAST, mac(number))).collect::<Vec<_>>());
    expect(&two, 50);
    let events = engine.take_events();
    assert_eq!(events.len(), 8);
    for (number, event) in (0..).zip(events) {
        let mac = vde_engine::frame::MacAddress(mac(number));
        assert_eq!(event, Event::FirstMac { endpoint: id, port: 4, mac });
    }
}
