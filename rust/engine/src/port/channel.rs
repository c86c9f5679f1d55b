//! The test double, shipped: a port whose peer is a pair of bounded lists in memory.
//!
//! A socket pair gives it a real descriptor to be watched by: readable while frames wait, not writable while the
//! peer has no room. No frame goes through it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Down, Port};
use crate::pool::{Batch, FrameRef, Received};
use crate::stats::Counters;
use crate::vnet_header::{self, Offloads, VnetHeader};

#[derive(Default)]
struct Shared {
    to_engine: VecDeque<(VnetHeader, Vec<u8>)>,
    from_engine: VecDeque<(VnetHeader, Vec<u8>)>,
    room: usize,
    down: Option<String>,
    panics: bool,
}

/// The engine's half.
pub struct Channel {
    shared: Arc<Mutex<Shared>>,
    watched: UnixStream,
    offloads: Offloads,
    /// Does not say when there is room, but wants to be asked after this.
    unsaid: Option<Duration>,
    full: bool,
}

/// The test's half: what a virtual machine would be.
pub struct Peer {
    shared: Arc<Mutex<Shared>>,
    signal: UnixStream,
}

/// A port and its peer, which takes `room` frames before it has to read.
///
/// # Errors
/// What the kernel says when there is no socket pair.
pub fn channel(room: usize) -> io::Result<(Channel, Peer)> {
    let (watched, signal) = UnixStream::pair()?;
    watched.set_nonblocking(true)?;
    signal.set_nonblocking(true)?;
    let shared = Arc::new(Mutex::new(Shared { room, ..Shared::default() }));
    let offloads = Offloads::NONE;
    Ok((
        Channel { shared: Arc::clone(&shared), watched, offloads, unsaid: None, full: false },
        Peer { shared, signal },
    ))
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    /// Let the peer take frames with these offloads.
    #[must_use]
    pub fn with_offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// Do not say when the peer has room again: ask it after `delay`, as for a datagram socket on macOS.
    #[must_use]
    pub fn without_a_signal(mut self, delay: Duration) -> Self {
        self.unsaid = Some(delay);
        self
    }
}

impl Channel {
    /// Everything was read: the descriptor is not readable until the peer rings again.
    fn silence(&self) {
        let mut bells = [0; 64];
        while matches!((&self.watched).read(&mut bells), Ok(count) if count > 0) {}
    }

    /// There is no room: the descriptor is not writable until the peer has read.
    fn plug(&self) {
        let filling = [0; 4096];
        while matches!((&self.watched).write(&filling), Ok(count) if count > 0) {}
    }
}

impl Peer {
    /// Send frames that are finished.
    pub fn send(&self, frames: &[Vec<u8>]) {
        self.send_with_header(VnetHeader::default(), frames);
    }

    /// Send frames with this header in front.
    pub fn send_with_header(&self, header: VnetHeader, frames: &[Vec<u8>]) {
        self.change(|shared| shared.to_engine.extend(frames.iter().map(|frame| (header, frame.clone()))));
    }

    /// What has arrived, in order.
    pub fn take(&self) -> Vec<(VnetHeader, Vec<u8>)> {
        let mut shared = lock(&self.shared);
        let mut filling = [0; 4096];
        while matches!((&self.signal).read(&mut filling), Ok(count) if count > 0) {}
        shared.from_engine.drain(..).collect()
    }

    /// How many frames the engine has not read yet.
    pub fn unread(&self) -> usize {
        lock(&self.shared).to_engine.len()
    }

    /// From now on the descriptor is of no use.
    pub fn fail(&self, reason: &str) {
        self.change(|shared| shared.down = Some(reason.to_owned()));
    }

    /// From now on reading is a bug.
    pub fn panic(&self) {
        self.change(|shared| shared.panics = true);
    }

    fn change(&self, change: impl FnOnce(&mut Shared)) {
        let mut shared = lock(&self.shared);
        change(&mut shared);
        // When the socket is full it is readable, which is all that is wanted.
        let _ = (&self.signal).write(&[1]);
    }
}

impl Port for Channel {
    fn descriptor(&self) -> RawFd {
        self.watched.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        let mut shared = lock(&self.shared);
        assert!(!shared.panics, "the test asked for it");
        if let Some(reason) = &shared.down {
            return Err(Down(reason.clone()));
        }
        while batch.room() > 0 {
            let Some((header, frame)) = shared.to_engine.pop_front() else { break };
            let len = frame.len();
            if let Some(slot) = batch.next_slot() {
                let room = &mut slot[vnet_header::LEN..];
                let fits = len.min(room.len());
                room[..fits].copy_from_slice(&frame[..fits]);
            }
            batch.push(if len == 0 { Received::Nothing } else { Received::Frame(len) }, Some(header));
        }
        if shared.to_engine.is_empty() {
            self.silence();
        }
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut shared = lock(&self.shared);
        let taken = frames.len().min(shared.room.saturating_sub(shared.from_engine.len()));
        for frame in &frames[..taken] {
            let header = frame.with_header().first_chunk().map_or_else(VnetHeader::default, VnetHeader::parse);
            shared.from_engine.push_back((header, frame.ethernet().to_vec()));
            counters.sent(frame.ethernet().len());
        }
        self.full = taken < frames.len();
        if self.full && self.unsaid.is_none() {
            self.plug();
        }
        Ok(taken)
    }

    fn again_after(&self) -> Option<Duration> {
        self.unsaid.filter(|_| self.full)
    }

    fn sender_waits(&self) -> bool {
        true
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }
}
