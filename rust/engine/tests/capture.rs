//! Captures: what is in the file, at whose cost, and how they end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::File;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use support::*;
use vde_engine::bpf::{Instruction, Program};
use vde_engine::capture::{CaptureConfig, CaptureId, MOST_CAPTURES};
use vde_engine::{Engine, EngineError, Event};

fn start(engine: &Engine, target: impl Into<OwnedFd>, config: CaptureConfig) -> CaptureId {
    let (capture, started) = engine.start_capture(target.into(), config).unwrap();
    started.wait(LONG).unwrap().unwrap();
    capture
}

fn stop(engine: &Engine, capture: CaptureId) {
    engine.stop_capture(capture).unwrap().wait(LONG).unwrap().unwrap();
}

/// A capture into a socket that somebody reads to its end.
fn read_capture(engine: &Engine, config: CaptureConfig) -> (CaptureId, JoinHandle<Vec<u8>>) {
    let (near, mut far) = UnixStream::pair().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        far.read_to_end(&mut all).unwrap();
        all
    });
    (start(engine, near, config), reader)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

/// A recorded frame: its interface, whether it went out, its bytes, and how long it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record(u32, bool, Vec<u8>, usize);

/// The frames of a file, and the sums of what its interfaces have recorded and lost.
fn parse(mut file: &[u8]) -> (Vec<Record>, u64, u64) {
    let (mut records, mut recorded, mut lost) = (Vec::new(), 0, 0);
    assert_eq!(word(file, 0), 0x0a0d_0d0a);
    while !file.is_empty() {
        let len = word(file, 4) as usize;
        assert_eq!(word(file, len - 4) as usize, len);
        let body = &file[8..len - 4];
        match word(file, 0) {
            5 => {
                for option in body[12..].chunks(12) {
                    let value = || u64::from_le_bytes(*option[4..].first_chunk().unwrap());
                    match option[0] {
                        5 => lost += value(),
                        8 => recorded += value(),
                        _ => {}
                    }
                }
            }
            6 => {
                let kept = word(body, 12) as usize;
                let flags = word(body, 20 + kept.next_multiple_of(4) + 4);
                let bytes = body[20..20 + kept].to_vec();
                records.push(Record(word(body, 0), flags == 2, bytes, word(body, 16) as usize));
            }
            _ => {}
        }
        file = &file[len..];
    }
    (records, recorded, lost)
}

#[test]
fn each_frame_is_there_once_where_it_entered() {
    let engine = engine();
    let ((_, one), (_, two), (_, three)) =
        (plug(&engine, 1, 100), plug(&engine, 2, 100), plug(&engine, 3, 100));
    let (capture, reader) = read_capture(&engine, CaptureConfig::default());
    one.send(&[frame(BROADCAST, mac(1))]);
    expect(&two, 1);
    two.send(&[frame(mac(1), mac(2))]);
    expect(&one, 1);
    expect(&three, 1);
    stop(&engine, capture);
    let (records, recorded, lost) = parse(&reader.join().unwrap());
    assert_eq!(
        records,
        [Record(0, false, frame(BROADCAST, mac(1)), 60), Record(1, false, frame(mac(1), mac(2)), 60)]
    );
    assert_eq!((recorded, lost), (2, 0));
}

#[test]
fn with_a_choice_of_ports_frames_are_there_where_they_enter_and_leave() {
    let engine = engine();
    let ((_, one), (_, two), (_, _three)) =
        (plug(&engine, 1, 100), plug(&engine, 2, 100), plug(&engine, 3, 100));
    let config = CaptureConfig { ports: Some(vec![2]), snaplen: 20, ..CaptureConfig::default() };
    let (capture, reader) = read_capture(&engine, config);
    one.send(&[frame(BROADCAST, mac(1))]);
    expect(&two, 1);
    two.send(&[frame(mac(1), mac(2))]);
    expect(&one, 1);
    one.send(&[frame(mac(9), mac(1))]);
    expect(&two, 1);
    stop(&engine, capture);
    let (records, ..) = parse(&reader.join().unwrap());
    let cut = |frame: Vec<u8>| frame[..20].to_vec();
    assert_eq!(
        records,
        [
            Record(0, true, cut(frame(BROADCAST, mac(1))), 60),
            Record(0, false, cut(frame(mac(1), mac(2))), 60),
            Record(0, true, cut(frame(mac(9), mac(1))), 60),
        ]
    );
}

#[test]
fn a_filter_says_which_frames_and_how_much_of_them() {
    let engine = engine();
    let ((_, one), (_, two)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    // The last byte of a frame of 60 bytes, and 30 of its bytes if that is 7.
    let program = [
        instruction(0x30, 0, 0, 59),
        instruction(0x15, 0, 1, 7),
        instruction(0x06, 0, 0, 30),
        instruction(0x06, 0, 0, 0),
    ];
    let filter = Some(Program::new(&program).unwrap());
    let (capture, reader) = read_capture(&engine, CaptureConfig { filter, ..CaptureConfig::default() });
    let marked = |mark| frame_of(BROADCAST, mac(1), 60, mark);
    one.send(&[marked(1), marked(7), frame_of(BROADCAST, mac(1), 40, 7)]);
    expect(&two, 3);
    stop(&engine, capture);
    assert_eq!(parse(&reader.join().unwrap()).0, [Record(0, false, marked(7)[..30].to_vec(), 60)]);
}

#[test]
fn an_endpoint_that_comes_later_is_described_when_it_speaks() {
    let engine = engine();
    let (_, one) = plug(&engine, 1, 1_000);
    let (capture, reader) = read_capture(&engine, CaptureConfig::default());
    for round in 0..20_u32 {
        let (id, late) = plug(&engine, 2, 100);
        late.send(&[frame(BROADCAST, mac(10 + round))]);
        expect(&one, 1);
        detach(&engine, id);
    }
    stop(&engine, capture);
    let file = reader.join().unwrap();
    let (records, recorded, _) = parse(&file);
    assert_eq!(recorded, 20, "also of those that have gone");
    assert!(records.iter().map(|record| record.0).eq(1..=20));
    assert!(file.windows(18).any(|text| text == b"port 2, endpoint 3"));
}

#[test]
fn a_reader_that_is_stuck_costs_frames_of_the_capture_only() {
    let engine = engine();
    let ((sender, one), (_, two)) = (plug(&engine, 1, 100), plug(&engine, 2, 1 << 20));
    let (near, mut far) = UnixStream::pair().unwrap();
    let capture = start(&engine, near, CaptureConfig { buffer: 1 << 17, ..CaptureConfig::default() });
    let (count, len) = (4_000, 1_500);
    for _ in 0..count / 50 {
        one.send(&vec![frame_of(BROADCAST, mac(1), len, 1); 50]);
    }
    expect(&two, count);
    assert_eq!(counters(&engine, sender).dropped_frames(), 0);
    let going = engine.captures().unwrap().wait(LONG).unwrap().unwrap();
    assert_eq!(going.len(), 1);
    assert!(going[0].dropped > 0);
    assert_eq!(going[0].frames + going[0].dropped, count as u64);
    // Whoever reads after all gets what there was room for, and hears of the rest.
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        far.read_to_end(&mut all).unwrap();
        all
    });
    stop(&engine, capture);
    let (records, recorded, lost) = parse(&reader.join().unwrap());
    assert_eq!((records.len() as u64, recorded, lost), (going[0].frames, going[0].frames, going[0].dropped));
}

fn expect_end(engine: &Engine, capture: CaptureId) -> String {
    let ended = |event: &Event| matches!(event, Event::CaptureEnded { stats, .. } if stats.capture == capture);
    match expect_event(engine, ended) {
        Event::CaptureEnded { reason, .. } => reason,
        _ => unreachable!(),
    }
}

#[test]
fn it_ends_with_its_reader_with_its_limit_and_on_request() {
    let engine = engine();
    let ((_, one), (_, two)) = (plug(&engine, 1, 100), plug(&engine, 2, 100));

    let (near, far) = UnixStream::pair().unwrap();
    let capture = start(&engine, near, CaptureConfig::default());
    drop(far);
    assert_eq!(expect_end(&engine, capture), "nobody reads it any more", "without any traffic");

    let (near, mut far) = UnixStream::pair().unwrap();
    let capture = start(&engine, near, CaptureConfig::default());
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(expect_end(&engine, capture), "its reader has had enough");
    let mut all = Vec::new();
    far.read_to_end(&mut all).unwrap();
    assert_eq!(parse(&all), (vec![], 0, 0), "and it was written to its end");

    let config = CaptureConfig { limit: Some(2), ..CaptureConfig::default() };
    let (capture, reader) = read_capture(&engine, config);
    one.send(&vec![frame(BROADCAST, mac(1)); 5]);
    expect(&two, 5);
    assert_eq!(expect_end(&engine, capture), "it has the frames asked for");
    assert_eq!(parse(&reader.join().unwrap()).1, 2);

    let (capture, reader) = read_capture(&engine, CaptureConfig::default());
    stop(&engine, capture);
    assert_eq!(expect_end(&engine, capture), "stopped");
    reader.join().unwrap();
    assert_eq!(engine.stop_capture(capture).unwrap().wait(LONG).unwrap().unwrap(), None);
}

#[test]
fn the_end_of_the_engine_is_the_end_of_the_file() {
    let engine = engine();
    let (_, one) = plug(&engine, 1, 100);
    let (_, reader) = read_capture(&engine, CaptureConfig::default());
    let (stuck, _unread) = UnixStream::pair().unwrap();
    start(&engine, stuck, CaptureConfig::default());
    one.send(&[frame(BROADCAST, mac(1))]);
    until("it was recorded", || {
        let captures = engine.captures().unwrap().wait(LONG).unwrap().unwrap();
        captures.iter().all(|stats| stats.frames == 1).then_some(())
    });
    engine.close();
    let (records, recorded, _) = parse(&reader.join().unwrap());
    assert_eq!((records.len(), recorded), (1, 1));
}

#[test]
fn there_are_eight_at_most_and_those_that_end_make_room() {
    let engine = engine();
    let mut all: Vec<_> = (0..MOST_CAPTURES).map(|_| read_capture(&engine, CaptureConfig::default())).collect();
    let (near, _far) = UnixStream::pair().unwrap();
    let refused = engine.start_capture(near.into(), CaptureConfig::default());
    assert!(matches!(refused, Err(EngineError::TooManyCaptures)));
    let (capture, reader) = all.pop().unwrap();
    stop(&engine, capture);
    reader.join().unwrap();
    until("there is room", || {
        let file = File::options().write(true).open("/dev/null").unwrap();
        engine.start_capture(file.into(), CaptureConfig::default()).ok()
    });
}
