//! Guests that share their memory need what Linux has (eventfds, memory files); elsewhere the kind is refused when
//! it is asked for.

use std::os::fd::{OwnedFd, RawFd};

use crate::pool::{Batch, FrameRef};
use crate::port::{Down, Port, PortError};
use crate::stats::Counters;

/// Cannot be made here.
pub enum VhostUser {}

impl VhostUser {
    /// # Errors
    /// Always [`PortError::WrongKind`].
    pub fn new(_own: OwnedFd, fd: RawFd) -> Result<Self, PortError> {
        Err(PortError::WrongKind { fd, wanted: "of a vhost-user front end: there are none on this system" })
    }
}

impl Port for VhostUser {
    fn descriptor(&self) -> RawFd {
        match *self {}
    }

    fn receive(&mut self, _batch: &mut Batch) -> Result<(), Down> {
        match *self {}
    }

    fn send(&mut self, _frames: &[FrameRef<'_>], _counters: &mut Counters) -> Result<usize, Down> {
        match *self {}
    }
}
