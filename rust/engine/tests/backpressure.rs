//! A peer that does not read: bounded, counted, and at nobody else's cost.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use support::*;
use vde_engine::pool::QUEUE_FRAMES;
use vde_engine::port::channel::channel;
use vde_engine::stats::DropReason;

#[test]
fn a_stuck_peer_fills_its_queue_and_loses_the_rest() {
    let engine = engine();
    let ((_, sender), (stuck, stuck_peer)) = (plug(&engine, 1, 10), plug(&engine, 2, 10));
    let count = QUEUE_FRAMES + 500;
    let frames: Vec<_> = (0..count).map(|mark| frame_of(BROADCAST, mac(1), 60, mark as u8)).collect();
    sender.send(&frames);
    expect_drops(&engine, stuck, DropReason::QueueFull, (count - 10 - QUEUE_FRAMES) as u64);
    assert_eq!(stats(&engine, stuck).queued_frames, QUEUE_FRAMES);
    // Once it reads it gets what was kept, in order.
    assert_eq!(expect(&stuck_peer, 10 + QUEUE_FRAMES), frames[..10 + QUEUE_FRAMES]);
    let stats = stats(&engine, stuck);
    assert_eq!((stats.queued_frames, stats.counters.tx_frames), (0, 10 + QUEUE_FRAMES as u64));
}

#[test]
fn others_get_everything_beside_a_stuck_peer() {
    let engine = engine();
    let ((_, sender), (_, _stuck), (_, reader)) =
        (plug(&engine, 1, 10), plug(&engine, 2, 10), plug(&engine, 3, 1_000_000));
    let frames: Vec<_> = (0..20_000_usize).map(|mark| frame_of(BROADCAST, mac(1), 60, mark as u8)).collect();
    sender.send(&frames);
    assert_eq!(expect(&reader, frames.len()).len(), frames.len());
}

#[test]
fn each_frame_for_a_stuck_peer_counts_once() {
    let engine = engine();
    let ((source, sender), (stuck, stuck_peer)) = (plug(&engine, 1, 10), plug(&engine, 2, 50));
    for round in 0..40_u32 {
        sender.send(&(0..100).map(|number| frame(BROADCAST, mac(number))).collect::<Vec<_>>());
        until("the batch was read", || {
            (counters(&engine, source).rx_frames == u64::from(round + 1) * 100).then_some(())
        });
        if round % 7 == 0 {
            stuck_peer.take();
        }
        let stats = stats(&engine, stuck);
        let accounted = stats.counters.tx_frames + stats.counters.dropped_frames() + stats.queued_frames as u64;
        assert_eq!(accounted, counters(&engine, source).rx_frames);
    }
}

#[test]
fn a_destination_that_has_taken_nothing_is_not_waited_for() {
    let engine = engine();
    let ((source, sender), (_, other), (_, _stuck)) =
        (plug(&engine, 1, 10), plug(&engine, 3, 10), plug(&engine, 2, 0));
    other.send(&[frame(mac(1), mac(3))]);
    expect(&sender, 1);
    let before = Instant::now();
    sender.send(&(0..5_000).map(|_| frame(mac(2), mac(1))).collect::<Vec<_>>());
    until("all was read", || (counters(&engine, source).rx_frames == 5_000).then_some(()));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_sender_waits_a_bounded_time_for_a_destination_that_stops_reading() {
    let engine = engine();
    let ((source, sender), (_, reader)) = (plug(&engine, 1, 10), plug(&engine, 2, 1_000));
    reader.send(&[frame(mac(1), mac(2))]);
    expect(&sender, 1);
    // It reads at first, and so deserves to be waited for, and then never again.
    for _ in 0..20 {
        sender.send(&(0..500).map(|_| frame(mac(2), mac(1))).collect::<Vec<_>>());
        expect(&reader, 500);
    }
    sender.send(&(0..50_000).map(|_| frame(mac(2), mac(1))).collect::<Vec<_>>());
    let before = Instant::now();
    until("all was read", || (counters(&engine, source).rx_frames == 60_000).then_some(()));
    let waited = before.elapsed();
    // What the reader has earned is some milliseconds; it is used up, and then nobody waits any more.
    assert!(waited > Duration::from_millis(5), "{waited:?}");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}

#[test]
fn what_a_busy_reader_did_not_get_was_counted() {
    let engine = engine();
    let ((_, sender), (receiver, reader)) = (plug(&engine, 1, 10), plug(&engine, 2, 64));
    reader.send(&[frame(mac(1), mac(2))]);
    expect(&sender, 1);
    let count = 100_000;
    sender.send(&vec![frame(mac(2), mac(1)); count]);
    let mut received = 0;
    until("everything has come or was dropped", || {
        received += reader.take().len();
        let dropped = counters(&engine, receiver).drops(DropReason::QueueFull) as usize;
        (received + dropped == count).then_some(())
    });
}

#[test]
fn a_paused_sender_that_leaves_is_gone() {
    let engine = engine();
    let ((source, sender), (receiver, _reader)) = (plug(&engine, 1, 10), plug(&engine, 2, 100));
    sender.send(&vec![frame(BROADCAST, mac(1)); 1_000]);
    until("the reader is full", || (stats(&engine, receiver).queued_frames > 0).then_some(()));
    detach(&engine, source);
    let (_, next) = plug(&engine, 3, 10);
    next.send(&[frame(BROADCAST, mac(3))]);
    until("the next one is read", || (next.unread() == 0).then_some(()));
}

#[test]
fn a_destination_that_leaves_is_not_waited_for() {
    let engine = engine();
    let ((source, sender), (receiver, _reader)) = (plug(&engine, 1, 10), plug(&engine, 2, 100));
    let (io, _peer) = channel(10).unwrap();
    attach(&engine, 3, io);
    sender.send(&vec![frame(BROADCAST, mac(1)); 500]);
    detach(&engine, receiver);
    until("all was read", || (counters(&engine, source).rx_frames == 500).then_some(()));
}

#[test]
fn a_peer_that_never_says_when_it_has_room_is_asked_again() {
    let engine = engine();
    let (_, sender) = plug(&engine, 1, 10);
    let (io, peer) = channel(10).unwrap();
    let receiver = attach(&engine, 2, io.without_a_signal(Duration::from_millis(1)));
    let frames: Vec<_> = (0..500_usize).map(|mark| frame_of(BROADCAST, mac(1), 60, mark as u8)).collect();
    sender.send(&frames);
    until("the rest is queued", || (stats(&engine, receiver).queued_frames == 490).then_some(()));
    assert_eq!(expect(&peer, 500), frames);
    assert_eq!(counters(&engine, receiver).dropped_frames(), 0);
}
