//! The stream port, with a real socket: lengths and frames, cut anywhere.

use std::io::Write;
use std::os::unix::net::UnixStream;

use vde_engine::frame::MAX_LEN;
use vde_engine::framing::{self, HEADER_LEN};
use vde_engine::pool::{BATCH, Batch, Received};
use vde_engine::port::Port;
use vde_engine::port::stream::Stream;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "stream",
    invariant: "However the bytes are cut, the frames before the first impossible length come out whole and in order.",
    run,
    seeds: || {
        let frame = |len: usize| [&framing::header(len)[..], &vec![7; len]].concat();
        let several = [frame(60), frame(0), frame(1514), frame(14)].concat();
        let broken = [frame(60), vec![0xff; 40]].concat();
        vec![[&[0, 9][..], &several].concat(), [&[3, 200][..], &broken].concat()]
    },
};

/// What a socket holds for sure; longer inputs say nothing new.
const LONGEST: usize = 64 << 10;

/// Two bytes say how many frames are read at once and how the rest is cut.
fn run(data: &[u8]) {
    let [turn, cut, wire @ ..] = data else { return };
    let wire = &wire[..wire.len().min(LONGEST)];
    let turn = usize::from(*turn) % BATCH + 1;
    let (expected, broken) = expected(wire);
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let mut port = Stream::new(ours.into(), 0).expect("it is a stream");
    let (mut got, mut down, mut batch) = (Vec::new(), false, Batch::new());
    let piece = if *cut == 0 { LONGEST } else { usize::from(*cut) * 7 };
    // Everything before was read, so that a write that waits is a finding, and not a target that hangs.
    theirs.set_nonblocking(true).expect("it is a socket");
    for bytes in wire.chunks(piece) {
        theirs.write_all(bytes).expect("there is room");
        down = drain(&mut port, turn, &mut batch, &mut got);
        if down {
            break; // nobody reads any more
        }
    }
    assert_eq!(got, expected);
    assert_eq!(down, broken);
}

/// Frames of `wire`, the too long ones as their length alone, and whether it breaks off the connection.
fn expected(mut wire: &[u8]) -> (Vec<Result<Vec<u8>, ()>>, bool) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = wire.split_first_chunk::<HEADER_LEN>() {
        let len = u32::from_be_bytes(*header) as usize;
        if len > framing::MAX_LEN {
            return (frames, true);
        }
        if rest.len() < len {
            break;
        }
        if len > 0 {
            frames.push(if len > MAX_LEN { Err(()) } else { Ok(rest[..len].to_vec()) });
        }
        wire = &rest[len..];
    }
    (frames, false)
}

/// Read until nothing comes; whether the port went down.
fn drain(port: &mut Stream, turn: usize, batch: &mut Batch, got: &mut Vec<Result<Vec<u8>, ()>>) -> bool {
    loop {
        batch.restart(turn);
        let result = port.receive(batch);
        for index in 0..batch.len() {
            match batch.received(index) {
                Received::Nothing => {}
                Received::Frame(_) => got.push(Ok(batch.frame(index).ethernet().to_vec())),
                Received::Oversized | Received::Dropped(..) => got.push(Err(())),
            }
        }
        if result.is_err() || batch.is_empty() {
            return result.is_err();
        }
    }
}
