//! The contract between the loop and whatever frames come from or go to. Read this file first.
//!
//! A port owns one open descriptor and does three things with it: read a batch, write a batch, say whether the
//! peer is alive. It never waits, decides nothing about where frames go, and keeps no queue: what the peer did
//! not take stays with the loop.
//!
//! To add a kind of port: write its file, add one line to [`Kind`] and to [`open`], its tests, its page.
//!
//! What the loop promises a port:
//! - all calls come from one thread;
//! - [`Port::receive`] is called after the descriptor became readable, until the port says
//!   [`Readiness::Drained`]; then not before it becomes readable again. Readiness is *edge triggered*: a port
//!   that says `Drained` too early sleeps for ever, so it says so only after the kernel had no more;
//! - [`Port::send`] gets frames in the order in which they are to go out, never empty ones, and after
//!   [`Readiness::Drained`] only when the descriptor became writable again;
//! - frames given to a port that lacks [`Port::takes_unfinished_checksums`] are finished.
//!
//! What a port promises the loop:
//! - bytes from the peer are hostile: lengths are checked, nothing panics;
//! - each frame it took is counted once, as sent or as dropped for one reason;
//! - an error that will come again for every frame (the peer is gone) drops the frames and is no news; an
//!   error after which the descriptor is of no use is [`Readiness::Down`].
//!
//! This folder is the only place with `unsafe`: system calls that the standard library does not have.

use std::os::fd::{OwnedFd, RawFd};

use crate::pool::{Batch, FrameRef};
use crate::stats::Counters;

pub mod channel;
pub mod descriptor;
pub mod dgram;
#[cfg(target_os = "linux")]
mod mmsg_linux;
#[cfg(any(test, not(target_os = "linux")))]
mod mmsg_other;
#[cfg(target_os = "linux")]
pub mod tap_linux;
#[cfg(not(target_os = "linux"))]
#[path = "tap_other.rs"]
pub mod tap_linux;

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// There may be more to read, or room to write more.
    More,
    /// The kernel has nothing more, or takes nothing more, for now.
    Drained,
    /// The descriptor is of no use any more, and why.
    Down(String),
}

/// How far a batch was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Frames done with, from the first: sent, or dropped and counted.
    pub taken: usize,
    /// Whether the rest can be tried at once.
    pub readiness: Readiness,
}

/// One open descriptor with frames on it. There is no method for a single frame.
pub trait Port: Send {
    /// What the poller watches; it stays the same as long as the port lives.
    fn descriptor(&self) -> RawFd;

    /// Read as many frames as `batch` has room for.
    fn receive(&mut self, batch: &mut Batch) -> Readiness;

    /// Write `frames` in order (at least one, at most [`crate::pool::BATCH`]); count each that was taken.
    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Sent;

    /// Asked when the poller reports an error or a hang-up, so that it does not report it again.
    fn health(&mut self) -> Readiness {
        Readiness::More
    }

    /// Whether whoever sends into this port waits when nobody reads, and loses nothing by waiting. Only such a
    /// port may be left unread for a moment while the destination catches up.
    fn sender_waits(&self) -> bool {
        false
    }

    /// Whether `send` may be given frames whose header says that the checksum is unfinished.
    fn takes_unfinished_checksums(&self) -> bool {
        false
    }

    /// Whether `send` may be given super-frames.
    fn takes_super_frames(&self) -> bool {
        false
    }
}

/// The kinds of descriptor that can be handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connected `AF_UNIX` datagram socket; a datagram is a frame.
    Dgram,
    /// A TAP or macvtap with `IFF_VNET_HDR` and a 12-byte header.
    Tap,
}

impl Kind {
    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "dgram" => Some(Self::Dgram),
            "tap" => Some(Self::Tap),
            _ => None,
        }
    }
}

/// Why a descriptor cannot become a port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It is not open, or the kernel refuses to answer.
    #[error("Descriptor {fd} cannot be used: {source}")]
    Unusable {
        /// The number the caller gave.
        fd: RawFd,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It is something else.
    #[error("Descriptor {fd} is not {wanted}")]
    WrongKind {
        /// The number the caller gave.
        fd: RawFd,
        /// What it should have been.
        wanted: &'static str,
    },
}

/// Make a port from a duplicate of `fd`; the caller keeps `fd` whatever happens.
///
/// # Errors
/// [`PortError`] when `fd` is not open or not of this kind.
pub fn open(kind: Kind, fd: RawFd) -> Result<Box<dyn Port>, PortError> {
    let own: OwnedFd = descriptor::duplicate(fd).map_err(|source| PortError::Unusable { fd, source })?;
    match kind {
        Kind::Dgram => Ok(Box::new(dgram::Dgram::new(own, fd)?)),
        Kind::Tap => Ok(Box::new(tap_linux::Tap::new(own, fd)?)),
    }
}
