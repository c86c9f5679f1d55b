//! The port against its double: what crosses, what is asked of either side, and what costs a guest its port.

use std::os::fd::{AsRawFd, OwnedFd};

use proptest::prelude::*;

use super::double::{BUFFERS, FrontEnd, GUEST, INDIRECT, MEMORY, NEXT, RECEIVE, RINGS, SIZE, TRANSMIT, WRITE};
use super::features::{EVENT_IDX, INDIRECT_DESC, MRG_RXBUF, OFFERED, PROTOCOL_FEATURES, VERSION_1};
use super::*;
use crate::pool::BATCH;
use crate::stats::DropReason;
use crate::vnet_header::{FLAG_DATA_VALID, FLAG_NEEDS_CSUM, GSO_TCPV4};

const PLAIN: u64 = PROTOCOL_FEATURES | VERSION_1 | MRG_RXBUF;

/// Read turns of `port` until nothing comes any more: the frames with their headers.
fn drain(port: &mut VhostUser) -> Result<Vec<Vec<u8>>, Down> {
    let (mut frames, mut batch) = (Vec::new(), Batch::new());
    loop {
        batch.restart(BATCH);
        let result = port.receive(&mut batch);
        for index in 0..batch.len() {
            if batch.received(index) != Received::Nothing {
                frames.push(batch.frame(index).with_header().to_vec());
            }
        }
        result?;
        if !port.holds_frames() {
            return Ok(frames);
        }
    }
}

/// A port whose front end has agreed on `features` and started both rings at `base`.
fn started_at(features: u64, base: u16) -> (FrontEnd, VhostUser) {
    let (mut front, other) = FrontEnd::new().unwrap();
    front.set_position(RECEIVE, base);
    front.set_position(TRANSMIT, base);
    let given = other.as_raw_fd();
    let mut port = VhostUser::new(other, given).unwrap();
    front.share(features).unwrap();
    front.start(RECEIVE, base).unwrap();
    front.start(TRANSMIT, base).unwrap();
    assert_eq!(drain(&mut port), Ok(vec![]));
    (front, port)
}

fn started(features: u64) -> (FrontEnd, VhostUser) {
    started_at(features, 0)
}

fn framed(header: VnetHeader, len: usize) -> Vec<u8> {
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend((0..len).map(|index| index as u8));
    bytes
}

fn plain(len: usize) -> Vec<u8> {
    framed(VnetHeader::default(), len)
}

fn send(port: &mut VhostUser, frames: &[Vec<u8>]) -> (Result<usize, Down>, Counters) {
    let mut counters = Counters::default();
    let frames: Vec<FrameRef<'_>> = frames.iter().map(|frame| FrameRef::new(frame)).collect();
    (port.send(&frames, &mut counters), counters)
}

fn why(result: Result<Vec<Vec<u8>>, Down>) -> String {
    result.expect_err("the port goes on").0
}

#[test]
fn frames_of_a_guest_come_out_however_they_lie() {
    for piece in [1, 7, 12, 14, 4096, 100_000] {
        let (mut front, mut port) = started(PLAIN);
        let frames = [60, 1514, 14].map(plain);
        for frame in &frames {
            // As many descriptors as the ring has, at most.
            front.transmit(frame, piece.max(frame.len().div_ceil(20)));
        }
        front.kick(TRANSMIT);
        assert_eq!(drain(&mut port).unwrap(), frames, "in pieces of {piece}");
        assert_eq!(front.used(TRANSMIT).len(), 3);
    }
}

#[test]
fn what_a_turn_has_no_bytes_left_for_comes_with_the_next() {
    for (most_bytes, a_turn) in [(1, 1), (2_900, 2), (3_001, 3), (100_000, 8)] {
        let (mut front, mut port) = started(PLAIN);
        let frames: Vec<_> = (0..8).map(|index| plain(1_480 + index)).collect();
        frames.iter().for_each(|frame| front.transmit(frame, 4096));
        front.kick(TRANSMIT);
        let (mut got, mut batch) = (Vec::new(), Batch::new());
        while got.len() < frames.len() {
            batch.restart_within(BATCH, most_bytes);
            port.receive(&mut batch).unwrap();
            let count = (0..batch.len()).filter(|index| batch.received(*index) != Received::Nothing).count();
            assert!((1..=a_turn).contains(&count), "{count} of at most {most_bytes} bytes");
            got.extend((0..count).map(|index| batch.frame(index).with_header().to_vec()));
        }
        assert_eq!(got, frames);
        assert_eq!(front.used(TRANSMIT).len(), 8);
    }
}

#[test]
fn a_super_frame_of_a_guest_keeps_its_header() {
    let (mut front, mut port) = started(OFFERED);
    let header = VnetHeader { gso_type: GSO_TCPV4, flags: FLAG_NEEDS_CSUM, ..VnetHeader::default() };
    front.transmit(&framed(VnetHeader { num_buffers: 9, ..header }, 65_000), 4096);
    assert_eq!(drain(&mut port).unwrap(), [framed(header, 65_000)]);
}

#[test]
fn an_indirect_table_is_followed_where_it_was_agreed_on() {
    for (features, agreed) in [(PLAIN | INDIRECT_DESC, true), (PLAIN, false)] {
        let (mut front, mut port) = started(features);
        let (table, frame) = (BUFFERS + 8, plain(100)); // not aligned as tables in rings are
        front.write(BUFFERS + 0x1000, &frame);
        let at = GUEST + BUFFERS as u64 + 0x1000;
        front.descriptor(table, 0, at, 12, NEXT, 2);
        front.descriptor(table, 2, at + 12, 100, 0, 0);
        front.descriptor(RINGS[TRANSMIT][0], 5, GUEST + table as u64, 48, INDIRECT, 0);
        front.make_available(TRANSMIT, 5);
        let result = drain(&mut port);
        if agreed {
            assert_eq!(result.unwrap(), [frame]);
            assert_eq!(front.used(TRANSMIT), [(5, 0)]);
        } else {
            assert!(why(result).contains("indirect"));
        }
    }
}

#[test]
fn an_old_driver_has_a_shorter_header() {
    let (mut front, mut port) = started(0);
    front.transmit(&plain(60)[2..], 1000);
    assert_eq!(drain(&mut port).unwrap()[0][12..], plain(60)[12..]);
    let buffer = front.chain(RECEIVE, &[10, 2000]);
    let (taken, _) = send(&mut port, &[plain(60)]);
    assert_eq!((taken, front.used(RECEIVE)), (Ok(1), vec![(0, 70)]));
    assert_eq!(front.read(buffer[1], 60), plain(60)[12..]);
}

#[test]
fn frames_for_a_guest_fill_as_many_buffers_as_they_need() {
    let (mut front, mut port) = started(PLAIN);
    let buffers: Vec<usize> = (0..40).flat_map(|_| front.chain(RECEIVE, &[2048])).collect();
    let (taken, counters) = send(&mut port, &[plain(60), plain(65_550), plain(61)]);
    assert_eq!((taken, counters.tx_frames, counters.tx_bytes), (Ok(3), 3, 65_671));
    let used = front.used(RECEIVE);
    assert_eq!(used.len(), 1 + 33 + 1);
    assert_eq!((used[0], used[1], used[33], used[34]), ((0, 72), (1, 2048), (33, 26), (34, 73)));
    let counts = [0, 1, 34].map(|index| front.read(buffers[index] + 10, 2));
    assert_eq!(counts, [[1, 0], [33, 0], [1, 0]]);
    let mut whole: Vec<u8> = (1..34).flat_map(|index| front.read(buffers[index], 2048)).collect();
    whole.truncate(12 + 65_550);
    assert_eq!(whole[12..], plain(65_550)[12..]);
}

#[test]
fn without_merged_buffers_a_frame_has_one_or_goes_nowhere() {
    let (mut front, mut port) = started(PROTOCOL_FEATURES | VERSION_1);
    front.chain(RECEIVE, &[12, 1000]);
    front.chain(RECEIVE, &[12, 1000]);
    let (taken, counters) = send(&mut port, &[plain(1000), plain(1001), plain(20)]);
    assert_eq!((taken, counters.tx_frames), (Ok(3), 2));
    assert_eq!(counters.drops(DropReason::TooLong), 1);
    assert_eq!(front.used(RECEIVE), [(0, 1012), (2, 32)]);
}

#[test]
fn a_guest_without_room_is_waited_for_and_says_when() {
    for features in [PLAIN, PLAIN | EVENT_IDX] {
        let (mut front, mut port) = started(features);
        let frames = [plain(60), plain(60)];
        front.chain(RECEIVE, &[2048]);
        assert_eq!(send(&mut port, &frames).0, Ok(1));
        let (flag, event) = front.wanted_kicks(RECEIVE);
        assert!(if features & EVENT_IDX == 0 { flag } else { event == 1 });
        assert_eq!(send(&mut port, &frames[1..]).0, Ok(0));
        front.chain(RECEIVE, &[2048]);
        assert_eq!(send(&mut port, &frames[1..]).0, Ok(1));
        assert!(features & EVENT_IDX != 0 || !front.wanted_kicks(RECEIVE).0);
    }
}

#[test]
fn a_frame_longer_than_all_buffers_is_dropped() {
    let (mut front, mut port) = started(PLAIN);
    for _ in 0..SIZE {
        front.chain(RECEIVE, &[64]);
    }
    let (taken, counters) = send(&mut port, &[plain(64 * usize::from(SIZE)), plain(20)]);
    assert_eq!((taken, counters.tx_frames), (Ok(2), 1));
    assert_eq!(counters.drops(DropReason::TooLong), 1);
}

#[test]
fn kicks_are_wanted_only_while_there_is_nothing() {
    for features in [PLAIN, PLAIN | EVENT_IDX] {
        let (mut front, mut port) = started(features);
        let mut batch = Batch::new();
        let wanted = |front: &FrontEnd, next: u16| {
            let (flag, event) = front.wanted_kicks(TRANSMIT);
            if features & EVENT_IDX == 0 { flag } else { event == next }
        };
        assert!(wanted(&front, 0));
        front.transmit(&plain(60), 1000);
        port.receive(&mut batch).unwrap();
        assert_eq!((batch.len(), port.holds_frames(), wanted(&front, 1)), (1, true, false));
        batch.restart(BATCH);
        port.receive(&mut batch).unwrap();
        assert_eq!((batch.received(0), port.holds_frames()), (Received::Nothing, false));
        assert!(wanted(&front, 1));
    }
}

#[test]
fn a_guest_is_called_when_it_wants_to_be() {
    let (mut front, mut port) = started(PLAIN);
    let mut round = |front: &mut FrontEnd| {
        front.chain(RECEIVE, &[2048]);
        front.chain(RECEIVE, &[2048]);
        assert_eq!(send(&mut port, &[plain(60), plain(60)]).0, Ok(2));
        front.calls(RECEIVE)
    };
    front.want_calls(RECEIVE, true, 0);
    assert_eq!(round(&mut front), 1, "once for a batch");
    front.want_calls(RECEIVE, false, 0);
    assert_eq!(round(&mut front), 0);

    let (mut front, mut port) = started(PLAIN | EVENT_IDX);
    let mut round = |front: &mut FrontEnd, event: u16| {
        front.want_calls(RECEIVE, false, event);
        front.chain(RECEIVE, &[2048]);
        front.chain(RECEIVE, &[2048]);
        assert_eq!(send(&mut port, &[plain(60), plain(60)]).0, Ok(2));
        front.calls(RECEIVE)
    };
    let calls = [0, 2, 3, 6, 9].map(|event| round(&mut front, event));
    assert_eq!(calls, [1, 1, 0, 1, 1], "when the entry with that number is among the new ones");
}

#[test]
fn a_ring_that_is_off_takes_nothing_and_loses_what_it_is_given() {
    let (mut front, mut port) = started(PLAIN);
    for ring in [0_u32, 1] {
        front.message(18, 1, [ring, 0].map(u32::to_ne_bytes).as_flattened(), &[]).unwrap();
    }
    front.transmit(&plain(60), 1000);
    front.chain(RECEIVE, &[2048]);
    assert_eq!(drain(&mut port), Ok(vec![]));
    let (taken, counters) = send(&mut port, &[plain(60)]);
    assert_eq!((taken, counters.drops(DropReason::InterfaceDown)), (Ok(1), 1));
    assert_eq!((front.used(TRANSMIT).len(), front.used(RECEIVE).len()), (1, 0));
}

#[test]
fn a_ring_goes_on_where_it_is_said_to_be() {
    let from = 65_530_u16;
    let (mut front, mut port) = started_at(PLAIN, from);
    for _ in 0..10 {
        front.transmit(&plain(60), 1000);
    }
    assert_eq!(drain(&mut port).unwrap().len(), 10);
    assert_eq!(front.used(TRANSMIT).len(), 10);
    front.answers().unwrap();
    front.message(11, 1, [1_u32, 0].map(u32::to_ne_bytes).as_flattened(), &[]).unwrap();
    assert_eq!(drain(&mut port), Ok(vec![]));
    let answer = front.answers().unwrap();
    assert_eq!(answer[12..], [1_u32, u32::from(from.wrapping_add(10))].map(u32::to_ne_bytes).concat());
    front.transmit(&plain(60), 1000);
    front.kick(TRANSMIT);
    assert_eq!(drain(&mut port), Ok(vec![]), "it is stopped");
}

#[test]
fn a_guest_cannot_say_more_than_it_was_offered() {
    let (mut front, mut port) = started(PLAIN);
    let header = |flags, gso_type| VnetHeader { flags, gso_type, ..VnetHeader::default() };
    front.transmit(&framed(header(FLAG_NEEDS_CSUM, 0), 60), 1000);
    front.transmit(&framed(header(FLAG_DATA_VALID, 0), 60), 1000);
    let mut batch = Batch::new();
    port.receive(&mut batch).unwrap();
    assert_eq!(batch.received(0), Received::Dropped(60, DropReason::BadSuperFrame));
    assert_eq!(batch.frame(1).with_header(), plain(60));
}

#[test]
fn what_no_driver_does_costs_the_port() {
    let at = GUEST + BUFFERS as u64;
    let beyond = GUEST + MEMORY as u64;
    type Fault = (&'static str, fn(&mut FrontEnd, u64, u64));
    let faults: [Fault; 9] = [
        ("available in a ring", |front, _, _| front.write(RINGS[TRANSMIT][1] + 2, &[200, 0])),
        ("Descriptor 64", |front, _, _| front.make_available(TRANSMIT, SIZE)),
        ("Descriptor 999", |front, at, _| front.descriptor(RINGS[TRANSMIT][0], 0, at, 60, NEXT, 999)),
        ("chain of more", |front, at, _| front.descriptor(RINGS[TRANSMIT][0], 0, at, 60, NEXT, 0)),
        ("no memory", |front, _, beyond| front.descriptor(RINGS[TRANSMIT][0], 0, beyond, 60, 0, 0)),
        ("no memory", |front, _, beyond| front.descriptor(RINGS[TRANSMIT][0], 0, beyond - 1, 60, 0, 0)),
        ("no memory", |front, _, _| front.descriptor(RINGS[TRANSMIT][0], 0, u64::MAX, u32::MAX, 0, 0)),
        ("wrong direction", |front, at, _| front.descriptor(RINGS[TRANSMIT][0], 0, at, 60, WRITE, 0)),
        ("indirect", |front, at, _| front.descriptor(RINGS[TRANSMIT][0], 0, at, 15, INDIRECT, 0)),
    ];
    for (said, fault) in faults {
        let (mut front, mut port) = started(PLAIN | INDIRECT_DESC);
        front.make_available(TRANSMIT, 0);
        fault(&mut front, at, beyond);
        front.kick(TRANSMIT);
        let reason = why(drain(&mut port));
        assert!(reason.contains(said), "{reason} instead of {said}");
    }
    let (mut front, mut port) = started(PLAIN);
    front.chain(RECEIVE, &[0]);
    assert!(send(&mut port, &[plain(60)]).0.unwrap_err().0.contains("no room"));
}

#[test]
fn memory_that_was_taken_back_costs_the_port() {
    let (mut front, mut port) = started(PLAIN);
    front.transmit(&plain(60), 1000);
    front.file().set_len(0x1000).unwrap();
    front.kick(TRANSMIT);
    assert!(why(drain(&mut port)).contains("shortened"));
    let (front, mut port) = started(PLAIN);
    front.file().set_len(0).unwrap();
    assert!(send(&mut port, &[plain(60)]).0.unwrap_err().0.contains("shortened"));
}

#[test]
fn what_may_not_be_said_costs_the_port() {
    let pipe = std::io::pipe().unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let region = |len: u64| [0, 0, len, 0, 0].map(u64::to_ne_bytes).concat();
    for (said, request, flags, body, fds) in [
        ("invalid message", 99, 1, vec![], vec![]),
        ("invalid message", 1, 1, vec![0; 8], vec![]),
        ("5000 bytes", 1, 1, vec![0; 5000], vec![]),
        ("Not among", 2, 1, (1_u64 << 34).to_ne_bytes().to_vec(), vec![]),
        ("Not among", 16, 1, (1_u64 << 5).to_ne_bytes().to_vec(), vec![]),
        ("no power of two", 8, 1, words(&[0, 100]), vec![]),
        ("no power of two", 8, 1, words(&[0, 65_536]), vec![]),
        ("one pair", 8, 1, words(&[2, 64]), vec![]),
        ("one pair", 18, 1, words(&[2, 1]), vec![]),
        ("invalid parameters", 18, 1, words(&[0, 2]), vec![]),
        ("invalid message", 18, 0, words(&[0, 1]), vec![]),
        ("have to be polled", 12, 1, 0x100_u64.to_ne_bytes().to_vec(), vec![]),
        ("no eventfd", 12, 1, 0_u64.to_ne_bytes().to_vec(), vec![pipe.0.as_raw_fd()]),
        ("no eventfd", 13, 1, 0_u64.to_ne_bytes().to_vec(), vec![pipe.1.as_raw_fd()]),
        (
            "neither a memfd",
            5,
            1,
            [words(&[1, 0]), region(64)[8..].to_vec()].concat(),
            vec![pipe.0.as_raw_fd()],
        ),
        ("does not lie", 9, 1, [0_u64; 5].map(u64::to_ne_bytes).concat(), vec![]),
        ("inactive", 37, 1, region(64), vec![pipe.0.as_raw_fd()]),
    ] {
        let (front, mut port) = started(PLAIN);
        front.message(request, flags, &body, &fds).unwrap();
        let reason = why(drain(&mut port));
        assert!(reason.contains(said), "{reason} instead of {said}");
    }
}

#[test]
fn half_a_message_is_waited_for_and_nobody_is_kept_waiting() {
    let (front, mut port) = started(PLAIN);
    let message = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]].concat();
    for byte in message.chunks(1) {
        assert_eq!(drain(&mut port), Ok(vec![]));
        assert!(!port.holds_frames());
        front.raw(byte, &[]).unwrap();
    }
    let mut front = front;
    front.answers().unwrap();
    assert_eq!(drain(&mut port), Ok(vec![]));
    let answer = front.answers().unwrap();
    assert_eq!(answer[..12], [1_u32, 5, 8].map(u32::to_ne_bytes).concat());
    assert_eq!(answer[12..], OFFERED.to_ne_bytes());
}

#[test]
fn a_front_end_that_leaves_in_the_middle_of_a_message_has_gone() {
    for bytes in [&[1, 0, 0, 0, 1][..], &[2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 7]] {
        let (front, mut port) = started(PLAIN);
        front.raw(bytes, &[]).unwrap();
        assert_eq!(drain(&mut port), Ok(vec![]));
        drop(front);
        assert_eq!(drain(&mut port), Err(Down::closed()));
    }
}

#[test]
fn a_front_end_that_does_not_read_is_cut_off() {
    let (front, mut port) = started(PLAIN);
    let reason = loop {
        while front.message(1, 1, &[], &[]).is_ok() {}
        if let Err(down) = drain(&mut port) {
            break down.0;
        }
    };
    assert!(reason.contains("does not read"), "{reason}");
}

#[test]
fn a_front_end_that_has_gone_is_no_news() {
    let (front, mut port) = started(PLAIN);
    drop(front);
    assert_eq!(drain(&mut port), Err(Down::closed()));
}

#[test]
fn a_station_is_announced_and_a_request_answered() {
    let (mut front, mut port) = started(PLAIN);
    front.message(16, 1, &features::protocol().bits().to_ne_bytes(), &[]).unwrap();
    front.message(19, 9, &[2, 0, 0, 0, 0, 1, 0, 0], &[]).unwrap();
    front.message(20, 9, &1500_u64.to_ne_bytes(), &[]).unwrap();
    let frames = drain(&mut port).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][12..28], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x80, 0x35, 0, 1]);
    assert_eq!(frames[0].len(), 72);
    let ack = |request: u32| [request, 5, 8, 0, 0].map(u32::to_ne_bytes).concat();
    assert_eq!(front.answers().unwrap(), [ack(19), ack(20)].concat());
}

#[test]
fn what_is_no_connection_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = std::os::unix::net::UnixDatagram::pair().unwrap().0;
    for own in [OwnedFd::from(listener), OwnedFd::from(pair), OwnedFd::from(std::io::pipe().unwrap().0)] {
        assert!(matches!(VhostUser::new(own, 3), Err(PortError::WrongKind { fd: 3, .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is written into the rings, a call comes back, and what comes out are frames of possible lengths.
    #[test]
    fn any_ring_is_survived(
        patches in prop::collection::vec((0_usize..0x7000, prop::collection::vec(any::<u8>(), 1..40)), 1..30),
        features in prop::sample::select(vec![0, PLAIN, PLAIN | EVENT_IDX | INDIRECT_DESC, OFFERED]),
    ) {
        let (mut front, mut port) = started(features);
        for _ in 0..4 {
            front.transmit(&plain(200), 50);
            front.chain(RECEIVE, &[12, 500]);
        }
        for (at, bytes) in &patches {
            front.write(*at, bytes);
        }
        front.kick(TRANSMIT);
        let mut batch = Batch::new();
        for _ in 0..4 {
            batch.restart(BATCH);
            if port.receive(&mut batch).is_err() {
                break;
            }
            prop_assert!((0..batch.len()).all(|index| batch.frame(index).ethernet().len() <= frame::MAX_LEN));
            let (taken, counters) = send(&mut port, &[plain(60), plain(9000), plain(60)]);
            let Ok(taken) = taken else { break };
            let dropped = counters.drops(DropReason::TooLong);
            prop_assert_eq!(taken as u64, counters.tx_frames + dropped);
        }
    }
}
