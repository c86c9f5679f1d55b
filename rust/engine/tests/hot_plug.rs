//! Endpoints that come and go, by themselves or not, and the end of the engine.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use support::*;
use vde_engine::port::dgram::Dgram;
use vde_engine::{EngineError, Event};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_detached_endpoint_is_forgotten() {
    let engine = engine();
    let ((id, one), (_, two)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));
    one.send(&[frame(BROADCAST, mac(1))]);
    expect(&two, 1);
    detach(&engine, id);
    assert!(engine.stations().unwrap().wait(LONG).unwrap().unwrap().is_empty());
    assert!(engine.take_events().is_empty(), "nothing is said about an endpoint that nobody knows");
    detach(&engine, id);
    detach(&engine, 12_345);
}

#[test]
fn numbers_are_not_used_again() {
    let engine = engine();
    let (first, _) = plug(&engine, 1, 1);
    detach(&engine, first);
    let (second, _) = plug(&engine, 1, 1);
    assert!(second > first);
}

#[test]
fn an_endpoint_that_fails_says_so_once_and_takes_nobody_along() {
    let engine = engine();
    let ((id, one), (_, two), (_, three)) =
        (plug(&engine, 1, 100), plug(&engine, 2, 100), plug(&engine, 3, 100));
    one.fail("unplugged");
    let event = expect_event(&engine, |event| matches!(event, Event::EndpointDown { .. }));
    assert_eq!(event, Event::EndpointDown { endpoint: id, port: 1, reason: "unplugged".into() });
    two.send(&[frame(BROADCAST, mac(2))]);
    expect(&three, 1);
    detach(&engine, id);
}

#[test]
fn a_bug_in_the_loop_ends_the_engine_and_not_the_process() {
    let engine = engine();
    let (_, one) = plug(&engine, 1, 100);
    one.panic();
    let event = expect_event(&engine, |event| matches!(event, Event::EngineFailed { .. }));
    assert!(matches!(&event, Event::EngineFailed { reason } if reason.contains("the test asked for it")));
    let error =
        until("requests are refused", || engine.counters().and_then(|pending| pending.wait(LONG)).err());
    assert!(matches!(&error, EngineError::Ended(reason) if reason.contains("the test asked for it")));
    engine.close();
}

#[test]
fn a_closed_engine_refuses_and_closes_again() {
    let engine = engine();
    let (_, _peer) = plug(&engine, 1, 100);
    engine.close();
    engine.close();
    assert!(matches!(engine.counters(), Err(EngineError::Ended(_))));
    assert!(engine.take_events().is_empty());
}

#[test]
fn hundreds_of_endpoints_flood_and_leave() {
    let engine = engine();
    let plugs: Vec<_> = (1..=200).map(|port| plug(&engine, port, 1000)).collect();
    plugs[0].1.send(&vec![frame(BROADCAST, mac(1)); 100]);
    for (_, peer) in &plugs[1..] {
        expect(peer, 100);
    }
    plugs[150].1.send(&[frame(mac(1), mac(151))]);
    expect(&plugs[0].1, 1);
    for (id, _) in &plugs {
        detach(&engine, *id);
    }
    assert!(engine.counters().unwrap().wait(LONG).unwrap().unwrap().is_empty());
}

#[test]
fn coming_and_going_leaves_no_descriptor_behind() {
    let before = open_descriptors();
    {
        let engine = engine();
        for round in 0..500_u16 {
            let (near, _far) = UnixDatagram::pair().unwrap();
            let id = attach(&engine, round, Dgram::new(near.into(), 0).unwrap());
            detach(&engine, id);
        }
    }
    // Other tests of this file run beside this one; 500 leaked descriptors would stand out.
    assert!(open_descriptors() < before + 400);
}

#[test]
fn waiting_can_be_given_up() {
    let engine = engine();
    let pending = engine.counters().unwrap();
    // Whatever comes first, it is an answer or its absence, never an error.
    assert!(pending.wait(Duration::ZERO).is_ok());
}
