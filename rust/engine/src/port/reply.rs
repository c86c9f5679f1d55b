//! A client of a door that takes datagrams from the door's socket only: what goes to it goes out there, by its name.
//!
//! Facts this file rests on: on Linux a datagram socket that is connected refuses everybody but its peer (EPERM), so
//! that no socket of our own can reach such a client. The kernel charges what it has not read to the sending socket.
//! Where others send from there too, one that does not read must not use all of it up, and that the socket is
//! writable (only when less than a quarter is in use) says little; so what is unread is watched, and asked again
//! after a while.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::backoff::{Backoff, LONGEST};
#[cfg(target_os = "linux")]
use super::mmsg_linux as mmsg;
#[cfg(not(target_os = "linux"))]
use super::mmsg_macos as mmsg;
use super::names::Name;
use super::{Down, Port, PortError, descriptor};
use crate::pool::{Batch, FrameRef};
use crate::stats::{Counters, DropReason};

/// What part of a shared socket's buffer one client may leave unread. Chosen: some 20 full frames of Linux's
/// default, and a few stuck clients leave room for the others.
const PART: usize = 8;

/// Frames that a client whose window is closed may be tried with, one after the other, until one is read.
const PROBES: u8 = 16;

/// A window that has been closed for so long is tried with a frame. Chosen: nobody notices the delay, and others have
/// read what they were sent before.
const PROBE_AFTER: Duration = Duration::from_millis(4);

/// How much of a shared socket's buffer one client uses. The kernel says only how much all of them do. What it said
/// before the first frame that the client has not read yet is taken off, so that the client seems to use what others
/// were sent since; when they do not read either, a single frame shows that this one does. Pure.
#[derive(Clone, Copy, Debug)]
struct Window {
    size: usize,
    /// What of it is open now.
    limit: usize,
    before: Option<usize>,
    probes: u8,
}

impl Window {
    const fn new(size: usize) -> Self {
        Self { size, limit: size, before: None, probes: 0 }
    }

    /// Whether the client may be sent one more frame, with this much of the buffer in use, after it was closed for
    /// so long.
    fn is_open(&mut self, used: usize, closed: Option<Duration>) -> bool {
        match self.before {
            Some(before) if used > before => {
                if used - before < self.limit {
                    return true;
                }
                if self.probes >= PROBES || closed.is_none_or(|time| time < PROBE_AFTER) {
                    return false;
                }
                (self.before, self.limit, self.probes) = (Some(used), 1, self.probes + 1);
            }
            // Nothing of the client's is left, or less than nothing because others have read.
            _ => (self.before, self.limit, self.probes) = (Some(used), self.size, 0),
        }
        true
    }
}

/// The port. See the module's head.
pub struct Reply {
    socket: UnixDatagram,
    to: Name,
    /// Where the socket is shared.
    window: Option<Window>,
    room: Backoff,
}

impl Reply {
    /// `own` is a duplicate of the door's socket, which the caller called `given`; `to` is the client's address.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but an `AF_UNIX` datagram socket and the address of one.
    pub fn new(own: OwnedFd, given: RawFd, to: &[u8]) -> Result<Self, PortError> {
        let wrong = PortError::WrongKind { fd: given, wanted: "a bound UNIX datagram socket with a client" };
        match (descriptor::socket_option(own.as_fd(), libc::SO_TYPE), Name::new(to)) {
            (Ok(libc::SOCK_DGRAM), Some(to)) => {
                Ok(Self { socket: UnixDatagram::from(own), to, window: None, room: Backoff::new(LONGEST) })
            }
            _ => Err(wrong),
        }
    }

    /// The frames that may be tried at once; none when the client has to read first.
    fn share<'a, 'b>(&mut self, frames: &'a [FrameRef<'b>]) -> &'a [FrameRef<'b>] {
        let Some(window) = &mut self.window else { return frames };
        if window.is_open(descriptor::unsent(self.socket.as_fd()), self.room.delay()) {
            &frames[..1]
        } else {
            &[]
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
        while taken < frames.len() {
            let rest = self.share(&frames[taken..]);
            if rest.is_empty() {
                self.room.failed();
                return Ok(taken);
            }
            match mmsg::send_to(&self.socket, rest, Some(&self.to)) {
                Ok(count) => {
                    rest[..count].iter().for_each(|frame| counters.sent(frame.ethernet().len()));
                    taken += count;
                    self.room.reset();
                }
                Err(error) => match error.raw_os_error().unwrap_or(0) {
                    libc::EINTR => {}
                    libc::EAGAIN if self.window.is_none() => break,
                    libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                        self.room.failed();
                        return Ok(taken);
                    }
                    libc::EMSGSIZE => {
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

    fn says_room(&self) -> bool {
        self.window.is_none()
    }

    fn share_socket(&mut self) {
        let buffer = descriptor::socket_option(self.socket.as_fd(), libc::SO_SNDBUF).unwrap_or(0);
        let size = usize::try_from(buffer).unwrap_or(0) / PART;
        self.window.get_or_insert(Window::new(size));
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
    fn joined(name: &str, shared: bool) -> (UnixDatagram, UnixDatagram, Reply, std::path::PathBuf) {
        let place = std::env::temp_dir().join(format!("vde-reply-{}-{name}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        let door = UnixDatagram::bind(place.join("door")).unwrap();
        let client = UnixDatagram::bind(place.join("client")).unwrap();
        client.connect(place.join("door")).unwrap();
        client.set_nonblocking(true).unwrap();
        let own = door.try_clone().unwrap().into();
        let mut port = Reply::new(own, 99, place.join("client").as_os_str().as_encoded_bytes()).unwrap();
        if shared {
            port.share_socket();
        }
        (door, client, port, place)
    }

    #[test]
    fn a_client_that_is_connected_to_the_door_is_reached() {
        let (_door, client, mut port, place) = joined("reached", false);
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
    fn one_that_does_not_read_loses_nothing_until_its_queue_is_full() {
        for shared in [false, true] {
            let (_door, client, mut port, place) = joined(&format!("slow-{shared}"), shared);
            let bytes = with_header(1_514);
            let mut counters = Counters::default();
            while port.send(&[FrameRef::new(&bytes); 10], &mut counters) == Ok(10) {}
            assert_eq!(port.again_after().is_some(), shared);
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
    }

    #[test]
    fn stuck_clients_of_a_shared_socket_leave_room_for_the_others() {
        let (door, reader, mut port, place) = joined("shared", true);
        let bytes = with_header(1_514);
        let mut counters = Counters::default();
        let stuck: Vec<_> = ["s1", "s2", "s3"].map(|name| UnixDatagram::bind(place.join(name)).unwrap()).into();
        for (number, client) in stuck.iter().enumerate() {
            client.connect(place.join("door")).unwrap();
            let name = place.join(format!("s{}", number + 1));
            let own = door.try_clone().unwrap().into();
            let mut other = Reply::new(own, 99, name.as_os_str().as_encoded_bytes()).unwrap();
            other.share_socket();
            for _ in 0..100 {
                let _ = other.send(&[FrameRef::new(&bytes); 10], &mut counters).unwrap();
                let (mut sent, mut tries) = (0, 0);
                while sent < 5 {
                    sent += port.send(&[FrameRef::new(&bytes); 5][sent..], &mut counters).unwrap();
                    while reader.recv(&mut [0; 2_000]).is_ok() {}
                    tries += 1;
                    assert!(tries < 10, "stuck by {number} others");
                }
            }
            assert!(other.again_after().is_some());
        }
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_window_opens_when_what_was_sent_is_read() {
        let mut window = Window::new(100);
        for (used, open) in [(500, true), (599, true), (600, false), (300, true), (400, false), (0, true)] {
            assert_eq!(window.is_open(used, None), open, "{used}");
        }
    }

    #[test]
    fn a_window_that_others_closed_is_opened_by_a_frame_that_is_read() {
        let mut window = Window::new(100);
        assert!(window.is_open(0, None));
        assert!(!window.is_open(1_000, Some(Duration::from_millis(1)))); // others' 1000
        assert!(window.is_open(1_000, Some(PROBE_AFTER)));
        assert!(!window.is_open(1_060, Some(Duration::from_millis(1))));
        assert!(window.is_open(1_000, None)); // the 60 were read
        assert!(window.is_open(1_099, None));
    }

    #[test]
    fn one_that_never_reads_is_tried_a_few_times() {
        let mut window = Window::new(100);
        let mut used = 0;
        while used < 1_000_000 && window.is_open(used, Some(PROBE_AFTER)) {
            used += 60;
        }
        assert!(used <= 120 + 60 * usize::from(PROBES), "{used}");
    }

    #[test]
    fn one_that_has_gone_is_down() {
        let (_door, client, mut port, place) = joined("gone", false);
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
