//! An engine with channel ports, and waits that end when the thing happens.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "helpers of tests"
)]

use std::time::{Duration, Instant};

use vde_engine::port::Port;
use vde_engine::port::channel::{Peer, channel};
use vde_engine::stats::{Counters, DropReason};
use vde_engine::vnet_header::VnetHeader;
use vde_engine::{EndpointId, EndpointStats, Engine, EngineConfig, Event};

pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Longer than anything here takes; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(5);

/// A station's address.
pub fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x52, 0x54, a, b, c, d]
}

/// A frame of `len` bytes whose last byte is `mark`.
pub fn frame_of(destination: [u8; 6], source: [u8; 6], len: usize, mark: u8) -> Vec<u8> {
    let mut frame = [&destination[..], &source[..], &[0x88, 0xb5]].concat();
    frame.resize(len, 0);
    frame[len - 1] = mark;
    frame
}

pub fn frame(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    frame_of(destination, source, 60, 0)
}

pub fn engine() -> Engine {
    Engine::start(EngineConfig::default()).unwrap()
}

pub fn attach(engine: &Engine, port: u16, io: impl Port + 'static) -> EndpointId {
    attach_as(engine, port, io, false)
}

pub fn attach_as(engine: &Engine, port: u16, io: impl Port + 'static, receive_only: bool) -> EndpointId {
    let pending = engine.attach(port, format!("port {port}"), receive_only, Box::new(io)).unwrap();
    pending.wait(LONG).unwrap().unwrap().unwrap()
}

/// One more endpoint whose peer takes `room` frames before it has to read.
pub fn plug(engine: &Engine, port: u16, room: usize) -> (EndpointId, Peer) {
    let (io, peer) = channel(room).unwrap();
    (attach(engine, port, io), peer)
}

pub fn detach(engine: &Engine, endpoint: EndpointId) {
    engine.detach(endpoint).unwrap().wait(LONG).unwrap().unwrap();
}

pub fn stats(engine: &Engine, endpoint: EndpointId) -> EndpointStats {
    let all = engine.counters().unwrap().wait(LONG).unwrap().unwrap();
    all.into_iter().find(|stats| stats.endpoint == endpoint).unwrap()
}

pub fn counters(engine: &Engine, endpoint: EndpointId) -> Counters {
    stats(engine, endpoint).counters
}

/// Ask again and again, each time waiting for the engine's thread, until `answer` gives something.
pub fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = answer() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Wait until `count` frames have come, and see that there are no more.
pub fn expect(peer: &Peer, count: usize) -> Vec<Vec<u8>> {
    expect_with_headers(peer, count).into_iter().map(|(_, frame)| frame).collect()
}

pub fn expect_with_headers(peer: &Peer, count: usize) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut frames = Vec::new();
    until("enough frames have come", || {
        frames.extend(peer.take());
        (frames.len() >= count).then_some(())
    });
    assert_eq!(frames.len(), count, "too many frames");
    frames
}

/// Wait until an endpoint has dropped `count` frames for this reason, and see that it did for no other.
pub fn expect_drops(engine: &Engine, endpoint: EndpointId, reason: DropReason, count: u64) {
    let counters = until("enough frames were dropped", || {
        let counters = counters(engine, endpoint);
        (counters.drops(reason) >= count).then_some(counters)
    });
    assert_eq!((counters.drops(reason), counters.dropped_frames()), (count, count), "{}", reason.name());
}

pub fn expect_event(engine: &Engine, wanted: impl Fn(&Event) -> bool) -> Event {
    until("the event has come", || engine.take_events().into_iter().find(|event| wanted(event)))
}
