//! The port against its doubles.

use std::ptr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::double::{Framework, Kept, Object, blocks_alive, objects, runtime};
use super::*;
use crate::sys::{Interest, Poller};

const LIMITS: Limits =
    Limits { read_max_packets: 256, write_max_packets: 256, max_packet_size: 1514, headers: false };
/// As with the virtio-net header key and TSO.
const HEADERS: Limits = Limits { max_packet_size: vnet_header::LEN + frame::MAX_LEN, headers: true, ..LIMITS };

fn frame(len: usize, mark: u8) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|at| (at % 250) as u8).collect();
    if let Some(last) = frame.last_mut() {
        *last = mark;
    }
    frame
}

fn ready(port: &Vmnet) -> bool {
    let mut poller = Poller::new();
    poller.add(port.descriptor(), 0, Interest::READ).unwrap();
    let mut reports = Vec::new();
    poller.wait(&mut reports, Some(Duration::ZERO)).unwrap();
    !reports.is_empty()
}

/// Turns with batches of `room` frames until the port is quiet.
fn drain(port: &mut Vmnet, room: usize) -> Vec<Vec<u8>> {
    let (mut batch, mut frames, mut turns) = (Batch::new(), Vec::new(), 0);
    while ready(port) {
        batch.restart(room);
        port.receive(&mut batch).unwrap();
        for index in 0..batch.len() {
            if let Received::Frame(_) = batch.received(index) {
                assert_eq!(batch.header(index), VnetHeader::default());
                frames.push(batch.frame(index).ethernet().to_vec());
            }
        }
        turns += 1;
        assert!(turns < 10_000, "it never becomes quiet");
    }
    frames
}

fn send(port: &mut Vmnet, frames: &[Vec<u8>], counters: &mut Counters) -> usize {
    let bytes: Vec<_> = frames.iter().map(|frame| [&[0; vnet_header::LEN], &frame[..]].concat()).collect();
    let refs: Vec<_> = bytes.iter().map(|bytes| FrameRef::new(bytes)).collect();
    port.send(&refs, counters).unwrap()
}

#[test]
fn what_was_there_before_the_callback_is_read() {
    let framework = Framework::new(LIMITS);
    framework.arrive([frame(60, 1)]);
    assert_eq!(drain(&mut framework.port(), BATCH), [frame(60, 1)]);
}

#[test]
fn frames_come_in_order_and_as_short_as_they_are() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    let frames: Vec<_> = (0..300_usize).map(|number| frame(14 + number * 5, number as u8)).collect();
    framework.arrive(frames.clone());
    assert_eq!(drain(&mut port, BATCH), frames);
    framework.arrive([frame(42, 1)]);
    assert_eq!(drain(&mut port, 1), [frame(42, 1)]);
}

#[test]
fn one_frame_costs_two_reads_and_silence_none() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    drain(&mut port, BATCH);
    framework.state.lock().unwrap().reads = 0;
    framework.arrive([frame(60, 1)]);
    assert_eq!(drain(&mut port, BATCH).len(), 1);
    assert_eq!(framework.state.lock().unwrap().reads, 2);
    assert!(!ready(&port));
}

#[test]
fn an_event_without_frames_is_no_failure() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    let mut batch = Batch::new();
    for _ in 0..3 {
        framework.event();
        batch.restart(BATCH);
        port.receive(&mut batch).unwrap();
        assert_eq!((batch.len(), batch.received(0)), (1, Received::Nothing));
        assert!(!ready(&port));
    }
}

#[test]
fn lengths_that_cannot_be_are_counted_not_believed() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    framework.arrive([frame(2_000, 1), Vec::new(), frame(1_514, 2)]);
    let mut batch = Batch::new();
    port.receive(&mut batch).unwrap();
    let received: Vec<_> = (0..batch.len()).map(|index| batch.received(index)).collect();
    assert_eq!(received, [Received::Oversized, Received::Nothing, Received::Frame(1_514)]);
}

#[test]
fn frames_go_out_in_order_and_in_few_calls() {
    let framework = Framework::new(Limits { write_max_packets: 40, ..LIMITS });
    let mut port = framework.port();
    let frames: Vec<_> = (0..BATCH).map(|number| frame(60 + number, number as u8)).collect();
    let mut counters = Counters::default();
    assert_eq!(send(&mut port, &frames, &mut counters), BATCH);
    let state = framework.state.lock().unwrap();
    assert_eq!(state.written, frames);
    assert_eq!(state.write_sizes, [40, BATCH - 40]);
    assert_eq!((counters.tx_frames, counters.dropped_frames()), (BATCH as u64, 0));
}

#[test]
fn with_headers_each_frame_brings_its_own_and_takes_it_along() {
    let framework = Framework::new(HEADERS);
    let mut port = framework.port();
    let header = VnetHeader {
        flags: 1,
        gso_type: 1,
        gso_size: 1_448,
        hdr_len: 66,
        csum_start: 34,
        ..Default::default()
    };
    let with = |len: usize| [&header.to_bytes()[..], &frame(len, 1)].concat();
    framework.arrive([with(frame::MAX_LEN), with(60), vec![0; 12], vec![0; 5], with(frame::MAX_LEN + 1)]);
    let mut batch = Batch::new();
    port.receive(&mut batch).unwrap();
    let received: Vec<_> = (0..batch.len()).map(|index| batch.received(index)).collect();
    let (longest, nothing) = (Received::Frame(frame::MAX_LEN), Received::Nothing);
    assert_eq!(received, [longest, Received::Frame(60), nothing, nothing, Received::Oversized]);
    for (index, len) in [frame::MAX_LEN, 60].into_iter().enumerate() {
        assert_eq!(batch.header(index), header);
        assert!(batch.frame(index).ethernet() == frame(len, 1));
    }
    let (long, short) = (with(frame::MAX_LEN), with(60));
    let frames = [FrameRef::new(&long), FrameRef::new(&short)];
    assert_eq!(port.send(&frames, &mut Counters::default()), Ok(2));
    assert!(framework.state.lock().unwrap().written == [long, short]);
    assert!(port.offloads().take(&header));
    assert_eq!(Framework::new(LIMITS).port().offloads(), Offloads::NONE);
}

#[test]
fn a_turn_ends_after_some_super_frames() {
    let framework = Framework::new(HEADERS);
    let mut port = framework.port();
    drain(&mut port, BATCH);
    framework.arrive((0..40).map(|_| vec![0; 60_000]));
    let mut batch = Batch::new();
    port.receive(&mut batch).unwrap();
    assert_eq!(batch.len(), 6);
    assert!(ready(&port), "the rest is for the next turn");
    assert_eq!(drain(&mut port, BATCH).len(), 34);
}

#[test]
fn a_call_moves_no_more_bytes_than_it_may() {
    let framework = Framework::new(Limits { max_packet_size: frame::MAX_LEN, ..LIMITS });
    let mut port = framework.port();
    let frames: Vec<_> = (0..10).map(|number| frame(frame::MAX_LEN, number)).collect();
    assert_eq!(send(&mut port, &frames, &mut Counters::default()), 10);
    assert_eq!(framework.state.lock().unwrap().write_sizes, [3, 3, 3, 1]);
    framework.arrive(frames.clone());
    assert!(drain(&mut port, BATCH) == frames);
}

#[test]
fn frames_that_are_too_long_never_reach_the_framework() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    let frames = [1_515, 60, 9_000, 1_514, 1_515].map(|len| frame(len, 1));
    let mut counters = Counters::default();
    assert_eq!(send(&mut port, &frames, &mut counters), 5);
    assert_eq!((counters.tx_frames, counters.drops(DropReason::TooLong)), (2, 3));
    assert_eq!(framework.state.lock().unwrap().written, [frame(60, 1), frame(1_514, 1)]);
}

#[test]
fn a_frame_that_is_not_liked_costs_only_itself() {
    for status in [1003, 1006, 1008] {
        let framework = Framework::new(LIMITS);
        let mut port = framework.port();
        framework.state.lock().unwrap().disliked = Some(66);
        framework.state.lock().unwrap().write_statuses.push_back(status);
        let frames: Vec<_> = (0..BATCH).map(|number| frame(60, if number == 9 { 66 } else { 1 })).collect();
        let mut counters = Counters::default();
        assert_eq!(send(&mut port, &frames, &mut counters), BATCH);
        assert_eq!((counters.tx_frames, counters.drops(DropReason::Refused)), (BATCH as u64 - 1, 1));
        // The array, and then each of its frames.
        assert_eq!(framework.state.lock().unwrap().write_sizes.len(), 1 + BATCH);
        assert_eq!(port.again_after(), None);
        assert_eq!(
            port.take_trouble().as_deref(),
            Some("vmnet_write gives VMNET_INVALID_ARGUMENT (1003); such frames are dropped")
        );
        framework.state.lock().unwrap().disliked = None;
        send(&mut port, &frames, &mut counters);
        assert_eq!(framework.state.lock().unwrap().write_sizes.last(), Some(&BATCH));
    }
}

#[test]
fn exhausted_buffers_are_waited_for_longer_and_longer() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    framework.state.lock().unwrap().room = 0;
    let frames = vec![frame(60, 1); 10];
    let mut counters = Counters::default();
    let mut delays = Vec::new();
    for _ in 0..10 {
        assert_eq!(send(&mut port, &frames, &mut counters), 0);
        delays.extend(port.again_after().map(|delay| delay.as_millis()));
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 128, 128]);
    // It is told only when it lasts.
    assert_eq!(
        port.take_trouble().as_deref(),
        Some("vmnet_write gives VMNET_BUFFER_EXHAUSTED (1007); frames wait")
    );
    framework.state.lock().unwrap().room = 10;
    assert_eq!(send(&mut port, &frames, &mut counters), 10);
    assert_eq!((port.again_after(), port.take_trouble()), (None, None));
    assert_eq!((counters.tx_frames, counters.dropped_frames()), (10, 0));
}

#[test]
fn an_interface_that_takes_nothing_costs_frames_and_one_word() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    drain(&mut port, BATCH);
    let mut counters = Counters::default();
    let mut said = Vec::new();
    for _ in 0..100 {
        framework.state.lock().unwrap().write_statuses.extend([1001]);
        assert_eq!(send(&mut port, &vec![frame(60, 1); 10], &mut counters), 10);
        // A read is to tell whether the interface has gone.
        assert!(ready(&port));
        drain(&mut port, BATCH);
        said.extend(port.take_trouble());
    }
    assert_eq!((counters.tx_frames, counters.drops(DropReason::WriteFailed)), (0, 1_000));
    assert_eq!(said, ["vmnet_write gives VMNET_FAILURE (1001); frames are dropped"]);
    assert_eq!(send(&mut port, &[frame(60, 1)], &mut counters), 1);
    assert_eq!(counters.tx_frames, 1);
}

#[test]
fn failing_reads_are_tried_again_and_forgiven() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    framework.state.lock().unwrap().read_statuses.extend([1001, 1001, 1007]);
    framework.arrive([frame(60, 1)]);
    let mut batch = Batch::new();
    for delay in [1, 2, 4] {
        batch.restart(BATCH);
        assert_eq!(port.receive(&mut batch), Ok(()));
        assert_eq!(port.again_after(), Some(Duration::from_millis(delay)));
        assert!(batch.is_empty());
    }
    assert_eq!(
        port.take_trouble().as_deref(),
        Some("vmnet_read gives VMNET_BUFFER_EXHAUSTED (1007); trying again")
    );
    batch.restart(BATCH);
    assert_eq!(port.receive(&mut batch), Ok(()));
    assert_eq!((batch.len(), port.again_after()), (1, None));
}

#[test]
fn reads_that_always_fail_are_the_end() {
    let framework = Framework::new(LIMITS);
    let mut port = framework.port();
    port.given_up_after = Duration::ZERO;
    framework.state.lock().unwrap().read_statuses.extend([1007, 1005]);
    let mut batch = Batch::new();
    assert_eq!(port.receive(&mut batch), Ok(()), "exhausted buffers are never the end");
    let Err(Down(reason)) = port.receive(&mut batch) else { panic!("it goes on") };
    assert_eq!(reason, "vmnet_read gives VMNET_INVALID_ACCESS (1005) again and again");
}

#[test]
fn the_callback_goes_with_the_port() {
    let before = blocks_alive();
    let framework = Framework::new(LIMITS);
    let port = framework.port();
    assert!(framework.has_callback());
    drop(port);
    assert!(!framework.has_callback());
    assert_eq!(blocks_alive(), before);
}

#[test]
fn a_late_event_finds_live_memory() {
    let framework = Framework::new(LIMITS);
    let port = framework.port();
    framework.state.lock().unwrap().refuses_callback = true;
    drop(port); // the framework keeps the callback
    framework.event();
    framework.event();
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |limits| match Framework::new(limits).try_port() {
        Err(error) => error.to_string(),
        Ok(_) => String::new(),
    };
    for (limits, said) in [
        (Limits { read_max_packets: 0, ..LIMITS }, "read_max_packets must be 1…2147483647, not 0"),
        (Limits { write_max_packets: 0, ..LIMITS }, "write_max_packets must be 1…2147483647, not 0"),
        (Limits { max_packet_size: 59, ..LIMITS }, "max_packet_size must be 60…65550, not 59"),
        (Limits { max_packet_size: 65_551, ..LIMITS }, "max_packet_size must be 60…65550, not 65551"),
        (Limits { max_packet_size: 65_563, ..HEADERS }, "max_packet_size must be 60…65562, not 65563"),
    ] {
        assert_eq!(refused(limits), said);
    }
    let framework = Framework::new(LIMITS);
    framework.state.lock().unwrap().refuses_callback = true;
    let error = framework.try_port().err().map(|error| error.to_string());
    assert_eq!(
        error.as_deref(),
        Some("vmnet_interface_set_event_callback gives VMNET_INVALID_ARGUMENT (1003)")
    );
    assert_eq!(blocks_alive(), 0);
}

#[test]
fn a_completion_keeps_what_it_is_called_with() {
    let before = blocks_alive();
    let object = Object::new(1);
    let completion = Completion::new(&runtime(), Some(objects())).unwrap();
    let kept = Kept::new(completion.block());
    assert_eq!(completion.wait(Duration::ZERO), None);
    kept.call_with_object(1000, ptr::from_ref(&object).cast_mut().cast());
    kept.call_with_object(1001, ptr::null_mut());
    drop(kept);
    assert_eq!(object.load(Ordering::SeqCst), 2);
    let address = ptr::from_ref(&object).expose_provenance();
    assert_eq!(completion.wait(Duration::ZERO), Some(Completed { status: 1000, object: address }));
    assert_eq!(completion.wait(Duration::ZERO), Some(Completed { status: 1000, object: 0 }));
    drop(completion);
    assert_eq!(object.load(Ordering::SeqCst), 2, "the caller releases what it was given");
    assert_eq!(blocks_alive(), before);
}

#[test]
fn an_object_that_nobody_took_is_released() {
    let object = Object::new(1);
    let pointer = ptr::from_ref(&object).cast_mut().cast();
    let completion = Completion::new(&runtime(), Some(objects())).unwrap();
    let kept = Kept::new(completion.block());
    kept.call_with_object(1000, pointer);
    assert_eq!(object.load(Ordering::SeqCst), 2);
    drop(completion);
    assert_eq!(object.load(Ordering::SeqCst), 1);
    drop(kept);
}

#[test]
fn a_handler_called_too_late_does_nothing() {
    let before = blocks_alive();
    let object = Object::new(1);
    let completion = Completion::new(&runtime(), Some(objects())).unwrap();
    let kept = Kept::new(completion.block());
    drop(completion);
    kept.call_with_object(1000, ptr::from_ref(&object).cast_mut().cast());
    drop(kept);
    assert_eq!(object.load(Ordering::SeqCst), 1);
    assert_eq!(blocks_alive(), before);
}

#[test]
fn a_status_alone_needs_no_objects() {
    let completion = Completion::new(&runtime(), None).unwrap();
    let kept = Kept::new(completion.block());
    kept.call(1009);
    assert_eq!(completion.wait(Duration::ZERO), Some(Completed { status: 1009, object: 0 }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the limits and the lengths: every frame is written once or counted once, none is reordered, and no
    /// call goes beyond a limit (the double looks).
    #[test]
    fn every_frame_is_written_or_counted(
        lens in prop::collection::vec(14..2_000_usize, 1..=BATCH),
        write_max_packets in 1..100_usize,
        max_packet_size in 60..1_600_usize,
        room in 0..200_usize,
        disliked in 0..8_u8,
        statuses in prop::collection::vec(prop::sample::select(vec![1000, 1000, 1001, 1003, 1006, 1007]), 0..6),
    ) {
        let framework = Framework::new(Limits { write_max_packets, max_packet_size, ..LIMITS });
        let mut port = framework.port();
        {
            let mut state = framework.state.lock().unwrap();
            (state.room, state.disliked) = (room, Some(disliked));
            state.write_statuses.extend(statuses);
        }
        let frames: Vec<_> = lens.iter().enumerate().map(|(at, len)| frame(*len, (at % 8) as u8)).collect();
        let mut counters = Counters::default();
        let taken = send(&mut port, &frames, &mut counters);
        prop_assert_eq!(counters.tx_frames + counters.dropped_frames(), taken as u64);
        prop_assert_eq!(port.again_after().is_some(), taken < frames.len());
        let state = framework.state.lock().unwrap();
        prop_assert_eq!(state.written.len() as u64, counters.tx_frames);
        let mut rest = frames[..taken].iter();
        for written in &state.written {
            prop_assert!(rest.any(|frame| frame == written));
        }
    }

    /// Whatever the limits and however the frames come: all are read, in order, and the bell is silent after.
    #[test]
    fn every_frame_is_read(
        bursts in prop::collection::vec(prop::collection::vec(14..1_500_usize, 0..150), 1..5),
        read_max_packets in 1..300_usize,
        room in 1..=BATCH,
    ) {
        let framework = Framework::new(Limits { read_max_packets, ..LIMITS });
        let mut port = framework.port();
        for burst in bursts {
            let frames: Vec<_> = burst.iter().map(|len| frame(*len, 3)).collect();
            framework.arrive(frames.clone());
            prop_assert_eq!(drain(&mut port, room), frames);
        }
    }
}
