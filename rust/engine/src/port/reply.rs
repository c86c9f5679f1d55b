//! A client of a door that takes datagrams from the door's socket only: what goes to it goes out there, by its name.
//!
//! Facts this file rests on: on Linux a datagram socket that is connected refuses everybody but its peer (EPERM), so
//! that no socket of our own can reach such a client. The kernel charges what it has not read to the sending socket,
//! which others may be sending from, and calls that writable only when less than a quarter is in use; so this does
//! not wait for it to be writable, but asks again after a while.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::backoff::{Backoff, LONGEST};
#[cfg(target_os = "linux")]
use super::mmsg_linux as mmsg;
#[cfg(not(target_os = "linux"))]
use super::mmsg_other as mmsg;
use super::names::Name;
use super::{Down, Port, PortError, descriptor};
use crate::pool::{Batch, FrameRef};
use crate::stats::{Counters, DropReason};

/// The port. See the module's head.
pub struct Reply {
    socket: UnixDatagram,
    to: Name,
    room: Backoff,
}

impl Reply {
    /// `own` is a duplicate of the door's socket, which the caller called `given`; `to` is the client's address.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but an `AF_UNIX` datagram socket and the address of one.
    pub fn new(own: OwnedFd, given: RawFd, to: &[u8]) -> Result<Self, PortError> {
        let wrong = PortError::WrongKind { fd: given, wanted: "a bound UNIX datagram socket with a client" };
        let to = Name::new(to);
        match (descriptor::socket_option(own.as_fd(), libc::SO_TYPE), to) {
            (Ok(libc::SOCK_DGRAM), Some(to)) => {
                Ok(Self { socket: UnixDatagram::from(own), to, room: Backoff::new(LONGEST) })
            }
            _ => Err(wrong),
        }
    }
}

impl Port for Reply {
    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, _batch: &mut Batch) -> Result<(), Down> {
        Ok(()) // the door reads
    }

    fn reads(&self) -> bool {
        false
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut taken = 0;
        while let rest @ [next, ..] = &frames[taken..] {
            match mmsg::send_to(&self.socket, rest, Some(&self.to)) {
                Ok(count) => {
                    rest[..count].iter().for_each(|frame| counters.sent(frame.ethernet().len()));
                    taken += count;
                    self.room.reset();
                }
                Err(error) => match error.raw_os_error().unwrap_or(0) {
                    libc::EINTR => {}
                    libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                        self.room.failed();
                        return Ok(taken);
                    }
                    libc::EMSGSIZE => {
                        debug_assert!(!next.ethernet().is_empty());
                        counters.dropped(DropReason::Refused);
                        taken += 1;
                    }
                    _ => return Err(gone(&error)),
                },
            }
        }
        self.room.reset();
        Ok(taken)
    }

    fn health(&mut self) -> Result<(), Down> {
        let _ = self.socket.take_error();
        Ok(())
    }

    fn again_after(&self) -> Option<Duration> {
        self.room.delay()
    }
}

/// Closed, or its name was taken away, or it is connected to somebody else.
fn gone(error: &io::Error) -> Down {
    match error.raw_os_error().unwrap_or(0) {
        libc::ECONNREFUSED | libc::ENOENT | libc::ECONNRESET => Down::closed(),
        _ => Down(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vnet_header;

    fn with_header(len: usize) -> Vec<u8> {
        vec![0; vnet_header::LEN + len]
    }

    /// A door, a client that is connected to it, and a port for the client.
    fn joined(name: &str) -> (UnixDatagram, UnixDatagram, Reply, std::path::PathBuf) {
        let place = std::env::temp_dir().join(format!("vde-reply-{}-{name}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        let door = UnixDatagram::bind(place.join("door")).unwrap();
        let client = UnixDatagram::bind(place.join("client")).unwrap();
        client.connect(place.join("door")).unwrap();
        client.set_nonblocking(true).unwrap();
        let own = door.try_clone().unwrap().into();
        let port = Reply::new(own, 99, place.join("client").as_os_str().as_encoded_bytes()).unwrap();
        (door, client, port, place)
    }

    #[test]
    fn a_client_that_is_connected_to_the_door_is_reached() {
        let (_door, client, mut port, place) = joined("reached");
        let frames = [with_header(60), with_header(1_514), with_header(65_550)];
        let refs: Vec<_> = frames.iter().map(|bytes| FrameRef::new(bytes)).collect();
        let mut counters = Counters::default();
        for share in [&refs[..], &refs[..1]] {
            assert_eq!(port.send(share, &mut counters), Ok(share.len()));
        }
        for len in [60, 1_514, 65_550, 60] {
            assert_eq!(client.recv(&mut [0; 70_000]).unwrap(), len);
        }
        assert_eq!(counters.tx_frames, 4);
        assert_eq!(port.again_after(), None);
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn one_that_does_not_read_is_asked_again_after_a_while() {
        let (_door, client, mut port, place) = joined("slow");
        let bytes = with_header(1_514);
        let mut counters = Counters::default();
        while port.send(&[FrameRef::new(&bytes); 10], &mut counters) == Ok(10) {}
        assert!(port.again_after().is_some());
        let mut received = 0;
        while client.recv(&mut [0; 2_000]).is_ok() {
            received += 1;
        }
        assert_eq!(counters.tx_frames, received);
        assert_eq!(counters.dropped_frames(), 0);
        assert_eq!(port.send(&[FrameRef::new(&bytes)], &mut counters), Ok(1));
        assert_eq!(port.again_after(), None);
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn one_that_has_gone_is_down() {
        let (_door, client, mut port, place) = joined("gone");
        let bytes = with_header(60);
        let mut counters = Counters::default();
        drop(client);
        assert_eq!(port.send(&[FrameRef::new(&bytes)], &mut counters), Err(Down::closed()));
        std::fs::remove_file(place.join("client")).unwrap();
        assert_eq!(port.send(&[FrameRef::new(&bytes)], &mut counters), Err(Down::closed()));
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn an_address_is_needed() {
        for to in [&b""[..], &[b'x'; 200]] {
            let own = UnixDatagram::unbound().unwrap().into();
            assert!(matches!(Reply::new(own, 99, to), Err(PortError::WrongKind { fd: 99, .. })));
        }
    }
}
