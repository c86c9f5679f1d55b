//! The contract between the loop and whatever frames come from or go to. Read this file first.
//!
//! A port owns one open descriptor and does three things with it: read a batch, write a batch, say whether it is
//! still of use. It never waits, decides nothing about where frames go, and keeps no queue: what the peer did
//! not take stays with the loop.
//!
//! To add a kind of port: write its file, add one line to [`Kind`] and to [`open`], its tests, its page.
//!
//! What the loop promises a port:
//! - all calls come from one thread;
//! - [`Port::receive`] is called when the descriptor is readable. A port need not read everything: readiness is
//!   level triggered, what was left is reported again. It should not try for more than the batch has room for;
//!   the loop chooses that room so that quiet peers cost one short call;
//! - [`Port::send`] gets frames in the order in which they are to go out, never empty ones, and after it took
//!   fewer than it was given only when the descriptor became writable again (or after [`Port::again_after`]), and
//!   then the same ones first;
//! - frames ask for nothing that is not among the port's [`Port::offloads`]; one that takes TCP super-frames gets
//!   them made of what came in one batch.
//!
//! What a port promises the loop:
//! - bytes from the peer are hostile: lengths are checked, nothing panics;
//! - each frame it took is counted once, as sent or as dropped for one reason;
//! - an error that will come again for every frame (the peer is gone) drops the frames and is no news; an
//!   error after which the descriptor is of no use is [`Down`].
//!
//! This folder is, with `sys/`, the only place with `unsafe`: system calls that the standard library lacks.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::pool::{Batch, FrameRef};
use crate::sources::Sources;
use crate::stats::Counters;
use crate::vnet_header::Offloads;

mod backoff;
pub mod bare;
pub mod channel;
pub mod descriptor;
pub mod dgram;
pub mod door;
#[cfg(target_os = "linux")]
mod mmsg_linux;
#[cfg(any(test, not(target_os = "linux")))]
mod mmsg_macos;
#[cfg(any(test, not(target_os = "linux")))]
mod mmsg_other;
mod names;
pub mod reply;
pub mod slirp;
pub mod stream;
#[cfg(target_os = "linux")]
#[path = "tap_linux.rs"]
pub mod tap;
#[cfg(not(target_os = "linux"))]
#[path = "tap_other.rs"]
pub mod tap;
#[cfg(target_os = "linux")]
pub mod vhost_user;
#[cfg(not(target_os = "linux"))]
#[path = "vhost_user_other.rs"]
pub mod vhost_user;
pub mod vmnet;

/// The descriptor is of no use any more, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down(pub String);

impl Down {
    /// The peer went as peers do. Nothing is wrong.
    fn closed() -> Self {
        Self("peer closed".into())
    }
}

/// One open descriptor with frames on it. There is no method for a single frame.
pub trait Port: Send {
    /// What the poller watches; it stays the same as long as the port lives.
    fn descriptor(&self) -> RawFd;

    /// Read at most as many frames as `batch` has room for. None at all is no error.
    ///
    /// # Errors
    /// [`Down`], after which the port is dropped; what it has pushed is still forwarded.
    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down>;

    /// Give the frames of `batch` from number `first` on, which this port has read at some time, the headers that their
    /// sender did not give them. [`Port::receive`] has done so with what it reads; the loop asks for those that a
    /// [`Port::sources`] kept.
    fn complete(&self, _batch: &mut Batch, _first: usize) {}

    /// Write `frames` in order (at least one, at most [`crate::pool::BATCH`]) and say how many are done with,
    /// from the first: sent, or dropped and counted. Fewer than were given: the kernel takes no more for now.
    ///
    /// # Errors
    /// [`Down`], after which the port is dropped, and with it what it was given.
    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down>;

    /// Whether frames that were read from the descriptor wait in the port, where the poller does not see them; then
    /// [`Port::receive`] is called again soon, readable or not.
    fn holds_frames(&self) -> bool {
        false
    }

    /// Asked when the poller reports an error or a hang-up; takes the error off the descriptor, so that it is
    /// not reported again.
    ///
    /// # Errors
    /// [`Down`], after which the port is dropped.
    fn health(&mut self) -> Result<(), Down> {
        Ok(())
    }

    /// Whether it is read at all; else the poller watches it only while something is queued.
    fn reads(&self) -> bool {
        true
    }

    /// For a port that reads for others: whose what is. Such a port is no place on the switch; frames of a sender
    /// that nobody is are kept there.
    fn sources(&mut self) -> Option<&mut Sources> {
        None
    }

    /// When to come back whatever the descriptor says: for a port that nobody tells when it can go on. Asked after
    /// each turn; while it says something, writability is not waited for. The loop then calls [`Port::send`] with
    /// what is queued, and [`Port::receive`].
    fn again_after(&self) -> Option<Duration> {
        None
    }

    /// Whether the descriptor becomes readable, and never writable, when there is room again after [`Port::send`] took
    /// fewer frames than it was given; then a report of the one counts for the other.
    fn readable_means_room(&self) -> bool {
        false
    }

    /// Whether the descriptor becomes writable (or readable, see [`Port::readable_means_room`]) whenever there is room for
    /// what is queued; else the loop comes back for it by itself.
    fn says_room(&self) -> bool {
        true
    }

    /// Something that went wrong and is worth a word to whoever runs the network, once. Asked after each turn. A
    /// port says the same thing rarely, however often it happens.
    fn take_trouble(&mut self) -> Option<String> {
        None
    }

    /// Whether reading many frames costs about the same as reading one, so that there is no reason to ask for few.
    fn reads_many_at_once(&self) -> bool {
        false
    }

    /// Whether whoever sends into this port waits when nobody reads, and loses nothing by waiting. Only such a
    /// port may be left unread for a moment while the destination catches up.
    fn sender_waits(&self) -> bool {
        false
    }

    /// Whether it may be left unread for a moment: nothing that has been read waits in it.
    fn may_rest(&self) -> bool {
        !self.holds_frames()
    }

    /// Bytes that whoever sends into this port may have under way before it must wait for us to read, as far as can
    /// be told: only such a port may be left unread for a moment so that more is read at once. Frames take some more
    /// room than their length.
    fn sender_room(&self) -> Option<usize> {
        None
    }

    /// What `send` may be given besides finished frames.
    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    /// Others send from this port's socket too from now on; only the reply to one of a door's clients ([`Kind::Reply`])
    /// leaves them room.
    fn share_socket(&mut self) {}

    /// Open (`on`) or close a way in from outside; only the user-mode stack has any.
    ///
    /// # Errors
    /// What the kernel says when it cannot be opened, or there is none to close.
    fn forward(&mut self, _forward: &slirp::Forward, _on: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The kinds of descriptor that can be handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connected `AF_UNIX` datagram socket, a datagram is a frame, and something else says when the peer has
    /// gone; or a connected `SOCK_SEQPACKET`.
    Dgram,
    /// A connected `AF_UNIX` datagram socket of which nothing else says when the peer has gone.
    Unixgram,
    /// A bound `AF_UNIX` datagram socket that many send to.
    Door,
    /// The same, for one client that takes datagrams from there only.
    Reply,
    /// A connected stream socket with QEMU's framing.
    Stream,
    /// A TAP or macvtap with `IFF_VNET_HDR` and a 12-byte header.
    Tap,
    /// A connected stream socket on which a front end of vhost-user speaks.
    VhostUser,
}

impl Kind {
    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "dgram" => Some(Self::Dgram),
            "unixgram" => Some(Self::Unixgram),
            "door" => Some(Self::Door),
            "reply" => Some(Self::Reply),
            "stream" => Some(Self::Stream),
            "tap" => Some(Self::Tap),
            "vhost_user" => Some(Self::VhostUser),
            _ => None,
        }
    }
}

/// Why a descriptor cannot become a port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It is not open, or the kernel refuses to answer.
    #[error("Descriptor {fd} cannot be used")]
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

/// Make a port from a duplicate of `fd`; the caller keeps `fd` whatever happens. `peer` is the address of the client
/// of a [`Kind::Reply`].
///
/// # Errors
/// [`PortError`] when `fd` is not open or not of this kind.
pub fn open(kind: Kind, fd: RawFd, peer: &[u8]) -> Result<Box<dyn Port>, PortError> {
    let own: OwnedFd = descriptor::duplicate(fd).map_err(|source| PortError::Unusable { fd, source })?;
    match kind {
        Kind::Dgram => Ok(Box::new(dgram::Dgram::new(own, fd)?)),
        Kind::Unixgram => Ok(Box::new(dgram::Dgram::alone(own, fd)?)),
        Kind::Door => Ok(Box::new(door::Door::new(own, fd)?)),
        Kind::Reply => Ok(Box::new(reply::Reply::new(own, fd, peer)?)),
        Kind::Stream => Ok(Box::new(stream::Stream::new(own, fd)?)),
        Kind::Tap => Ok(Box::new(tap::Tap::new(own, fd)?)),
        Kind::VhostUser => Ok(Box::new(vhost_user::VhostUser::new(own, fd)?)),
    }
}
