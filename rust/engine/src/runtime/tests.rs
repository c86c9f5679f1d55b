//! Who gets how much of the loop, round by round, without a thread and without a clock.

use std::sync::mpsc;

use super::*;
use crate::pool::BATCH;
use crate::port::channel::{Peer, channel};
use crate::sys::Waker;

/// A loop that the test turns by hand; the waker is kept so that its end stays open.
struct Turned {
    frames: Loop,
    reports: Vec<Report>,
    _waker: Waker,
}

impl Turned {
    fn new() -> Self {
        let (waker, end) = Waker::new().unwrap();
        let (_, commands) = mpsc::sync_channel(1);
        let events = Arc::new(EventQueue::new().unwrap());
        let frames = Loop::new(end, commands, events, MacTable::new(16, 1_000), Duration::ZERO).unwrap();
        Self { frames, reports: Vec::new(), _waker: waker }
    }

    fn plug(&mut self, port: u16, room: usize) -> (EndpointId, Peer) {
        let (io, peer) = channel(room).unwrap();
        let attachment = Attachment { port, name: String::new(), receive_only: false, io: Box::new(io) };
        (self.frames.attach(attachment).unwrap(), peer)
    }

    /// A round, in which there is something to do.
    fn round(&mut self) {
        assert!(!self.frames.round(&mut self.reports).unwrap());
    }

    /// Frames and bytes that an endpoint has brought.
    fn brought(&self, id: EndpointId) -> (u64, u64) {
        let endpoint = self.frames.endpoints.all().find(|endpoint| endpoint.id == id).unwrap();
        (endpoint.counters.rx_frames, endpoint.counters.rx_bytes)
    }
}

fn frames(count: usize, source: u8, len: usize) -> Vec<Vec<u8>> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, source]);
    vec![frame; count]
}

#[test]
fn a_greedy_endpoint_and_a_modest_one_share_the_loop() {
    let mut turned = Turned::new();
    let ((greedy, one), (modest, two)) = (turned.plug(1, 0), turned.plug(2, 0));
    one.send(&frames(400, 1, 64_000));
    two.send(&frames(4_000, 2, 1_500));
    let rounds = 50;
    (0..rounds).for_each(|_| turned.round());
    let ((_, much), (count, little)) = (turned.brought(greedy), turned.brought(modest));
    // The first turns are short until it is known how much there is.
    assert!(count >= (rounds - 8) * BATCH as u64, "{count}");
    assert!(much <= little * 3 / 2, "{much} {little}");
    assert!(much >= little, "{much} {little}");
    // What is left comes when the other one has nothing more to say.
    (0..200).for_each(|_| {
        if one.unread() > 0 {
            turned.round()
        }
    });
    assert_eq!((one.unread(), two.unread()), (0, 0));
}

#[test]
fn many_greedy_ones_have_equal_shares_and_leave_a_modest_one_its_own() {
    let mut turned = Turned::new();
    let greedy: Vec<_> = (0..4).map(|port| turned.plug(port, 0)).collect();
    let (modest, quiet) = turned.plug(9, 0);
    for (source, (_, peer)) in greedy.iter().enumerate() {
        peer.send(&frames(100, source as u8, 60_000));
    }
    for round in 1..=30_u64 {
        quiet.send(&frames(1, 9, 60));
        turned.round();
        assert_eq!(turned.brought(modest).0, round, "its frame is read in the round in which it came");
    }
    let shares: Vec<_> = greedy.iter().map(|(id, _)| turned.brought(*id).1).collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= 60_000, "{shares:?}");
}
