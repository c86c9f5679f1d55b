//! The vhost-user port, with its double: whatever the guest has in its rings, and whatever its front end says.

use std::os::fd::AsRawFd;

use vde_engine::frame::MAX_LEN;
use vde_engine::pool::{BATCH, Batch, FrameRef, Received};
use vde_engine::port::Port;
use vde_engine::port::vhost_user::VhostUser;
use vde_engine::port::vhost_user::double::{FrontEnd, RECEIVE, RINGS, TRANSMIT};
use vde_engine::stats::Counters;
use vde_engine::vnet_header;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "vhost_user",
    invariant: "Whatever rings and messages hold, frames of a guest have possible lengths, and each frame for it is counted once.",
    run,
    seeds: || {
        let traffic = [1, 0, 0, 1, 60, 0, 2, 100, 0, 3, 4, 1, 0, 0, 1, 200, 1, 3, 4];
        let rings = [[2, 0, 8, 1, 50, 0, 5].as_slice(), &[0x40, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8], &[3, 4]].concat();
        let messages = [6, 1, 1, 0, 0, 6, 18, 1, 8, 1, 0, 0, 0, 1, 0, 0, 0, 0, 3, 4].to_vec();
        vec![traffic.to_vec(), rings, messages]
    },
};

/// Sets of features: nothing, the usual, with event index and indirect tables, everything.
const FEATURES: [u64; 4] = [0, 1 << 32 | 1 << 30 | 1 << 15, 1 << 32 | 1 << 30 | 3 << 28 | 1 << 15, 0x1_7020_bb8b];

/// Operations in one input; more say nothing new.
const MOST: usize = 40;

fn run(data: &[u8]) {
    let [features, data @ ..] = data else { return };
    let (mut front, ours) = FrontEnd::new().expect("a front end");
    let given = ours.as_raw_fd();
    let mut port = VhostUser::new(ours, given).expect("it is a connection");
    front.share(FEATURES[usize::from(*features) % 4]).expect("there is room");
    for ring in [RECEIVE, TRANSMIT] {
        front.start(ring, 0).expect("there is room");
    }
    let (mut batch, mut rest) = (Batch::new(), data);
    if receive(&mut port, &mut batch) {
        return;
    }
    for _ in 0..MOST {
        let Some(down) = step(&mut rest, &mut front, &mut port, &mut batch) else { break };
        if down {
            return; // the engine would drop it
        }
    }
    receive(&mut port, &mut batch);
}

/// One operation; whether the port went down, or none when there is no more.
fn step(rest: &mut &[u8], front: &mut FrontEnd, port: &mut VhostUser, batch: &mut Batch) -> Option<bool> {
    match take(rest, 1)?[0] % 7 {
        0 => {}
        1 => {
            let [low, high] = *take(rest, 2)? else { return None };
            let len = usize::from(u16::from_le_bytes([low, high]) % 4000);
            front.transmit(&vec![low & 1; vnet_header::LEN + len], 1 + usize::from(high) * 40 + len / 20);
        }
        2 => {
            let [low, high] = *take(rest, 2)? else { return None };
            front.chain(RECEIVE, &[usize::from(u16::from_le_bytes([low, high]) % 5000)]);
        }
        3 => front.kick(TRANSMIT),
        4 => return Some(receive(port, batch) || give(port)),
        5 => {
            let [place, low, high, len] = *take(rest, 4)? else { return None };
            let [ring, part] = [usize::from(place) & 1, usize::from(place) / 2 % 3];
            let at = RINGS[ring][part] + usize::from(u16::from_le_bytes([low, high]) % 0x800);
            front.write(at, take(rest, usize::from(len % 32))?);
        }
        _ => {
            let [request, flags, len] = *take(rest, 3)? else { return None };
            let body = take(rest, usize::from(len).min(rest.len()))?;
            // Descriptors that are right for some messages.
            let fds = if request % 3 == 0 { vec![] } else { vec![front.file().as_raw_fd()] };
            let _ = front.message(u32::from(request), u32::from(flags), body, &fds);
            let _ = front.answers();
        }
    }
    Some(false)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// Read a turn; whether the port went down.
fn receive(port: &mut VhostUser, batch: &mut Batch) -> bool {
    batch.restart(BATCH);
    let result = port.receive(batch);
    for index in 0..batch.len() {
        if let Received::Frame(len) = batch.received(index) {
            assert!(len <= MAX_LEN);
            assert_eq!(batch.header(index).num_buffers, 0);
        }
    }
    result.is_err()
}

/// Write a short frame and a long one; whether the port went down.
fn give(port: &mut VhostUser) -> bool {
    let frames = [60, 9000, 60].map(|len| vec![0; vnet_header::LEN + len]);
    let frames: Vec<FrameRef<'_>> = frames.iter().map(|frame| FrameRef::new(frame)).collect();
    let mut counters = Counters::default();
    let Ok(taken) = port.send(&frames, &mut counters) else { return true };
    assert_eq!(taken as u64, counters.tx_frames + counters.dropped_frames());
    false
}
