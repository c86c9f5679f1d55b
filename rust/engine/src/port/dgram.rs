//! A connected `AF_UNIX` socket that keeps packets apart: one packet is one bare frame (VDE, QEMU `-netdev dgram`,
//! unixgram, and vdeplug4's newer point to point on `SOCK_SEQPACKET`).
//!
//! Facts this file rests on: a zero-length datagram is how old VDE clients say good-bye, and makes some QEMU
//! versions stop reading, so it is ignored on input and never sent; a peer that closed its end gives
//! ECONNREFUSED once and ENOTCONN from then on, one that connected elsewhere EPERM. Datagram sockets have no end
//! that could be read; on `SOCK_SEQPACKET` it is an empty packet that comes again and again, and nobody sends any.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::backoff::{Backoff, LONGEST};
#[cfg(target_os = "linux")]
use super::mmsg_linux as mmsg;
#[cfg(not(target_os = "linux"))]
use super::mmsg_macos as mmsg;
use super::{Down, Port, PortError, descriptor};
use crate::pool::{Batch, FrameRef, Received};
use crate::stats::{Counters, DropReason};

/// When the endpoint ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Never: the control connection decides.
    Elsewhere,
    /// When the kernel says that the peer is not there any more.
    PeerGone,
    /// With an empty packet.
    Empty,
}

/// The port. See the module's head.
pub struct Dgram {
    socket: UnixDatagram,
    end: End,
    /// See [`Port::sender_room`].
    sender_room: usize,
    /// Where the poller does not say when the peer has room again.
    room: Backoff,
}

impl Dgram {
    /// For a peer that something else says the end of, unless it is a `SOCK_SEQPACKET`. `own` is what the caller
    /// called `given`; messages name that.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but a connected `AF_UNIX` datagram or `SOCK_SEQPACKET` socket.
    pub fn new(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        match descriptor::socket_option(own.as_fd(), libc::SO_TYPE) {
            Ok(libc::SOCK_SEQPACKET) => Self::connected(own, given, End::Empty),
            _ => Self::datagrams(own, given, End::Elsewhere),
        }
    }

    /// For a peer of which nothing else says the end (unixgram, one end of a socket pair).
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but a connected `AF_UNIX` datagram socket.
    pub fn alone(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        Self::datagrams(own, given, End::PeerGone)
    }

    fn datagrams(own: OwnedFd, given: RawFd, end: End) -> Result<Self, PortError> {
        match descriptor::socket_option(own.as_fd(), libc::SO_TYPE) {
            Ok(libc::SOCK_DGRAM) => Self::connected(own, given, end),
            _ => Err(wrong(given)),
        }
    }

    fn connected(own: OwnedFd, given: RawFd, end: End) -> Result<Self, PortError> {
        let socket = UnixDatagram::from(own);
        if socket.peer_addr().is_err() {
            return Err(wrong(given));
        }
        // Measured: some 93 full frames, twice as many as in a stream socket's.
        let sender_room = 2 * descriptor::peer_room(socket.as_fd());
        descriptor::enlarge_buffers(socket.as_fd());
        Ok(Self { socket, end, sender_room, room: Backoff::new(LONGEST) })
    }

    /// What an error that will come again means for the endpoint.
    fn gone(&self, error: &io::Error) -> Result<(), Down> {
        match (self.end, error.raw_os_error().unwrap_or(0)) {
            (End::Elsewhere | End::Empty, _) => Ok(()),
            (_, libc::ECONNREFUSED | libc::ENOTCONN | libc::ECONNRESET | libc::EPIPE) => Err(Down::closed()),
            _ => Err(Down(error.to_string())),
        }
    }
}

fn wrong(fd: RawFd) -> PortError {
    PortError::WrongKind { fd, wanted: "a connected UNIX datagram socket" }
}

impl Port for Dgram {
    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        match mmsg::receive(&self.socket, batch) {
            Ok(count) if self.end == End::Empty => {
                let mut newest = (batch.len() - count)..batch.len();
                if newest.any(|index| batch.received(index) == Received::Nothing) {
                    return Err(Down::closed());
                }
            }
            // What the socket remembers of a peer that went, told once.
            Err(error) if matches!(fate(&error, None), Fate::DropAll(_)) => return self.gone(&error),
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut taken = 0;
        while taken < frames.len() {
            let rest = &frames[taken..];
            match mmsg::send(&self.socket, rest) {
                Ok(count) => {
                    for frame in &rest[..count] {
                        counters.sent(frame.ethernet().len());
                    }
                    taken += count;
                    self.room.reset();
                }
                Err(error) => match fate(&error, mmsg::FULL_UNSAID) {
                    Fate::Again => {}
                    Fate::Wait => break,
                    Fate::AskAgain => {
                        self.room.failed();
                        return Ok(taken);
                    }
                    Fate::DropOne(reason) => {
                        counters.dropped(reason);
                        taken += 1;
                    }
                    Fate::DropAll(reason) => {
                        self.gone(&error)?;
                        rest.iter().for_each(|_| counters.dropped(reason));
                        taken = frames.len();
                    }
                },
            }
        }
        self.room.reset();
        Ok(taken)
    }

    fn health(&mut self) -> Result<(), Down> {
        // Reading the error takes it off the socket. The end of a SOCK_SEQPACKET is readable, behind all that was
        // sent before it.
        match self.socket.take_error() {
            Ok(Some(error)) => self.gone(&error),
            _ => Ok(()),
        }
    }

    fn again_after(&self) -> Option<Duration> {
        self.room.delay()
    }

    fn sender_waits(&self) -> bool {
        // vdeplug4 drops what a SOCK_SEQPACKET does not take at once.
        self.end != End::Empty
    }

    fn sender_room(&self) -> Option<usize> {
        self.sender_waits().then_some(self.sender_room)
    }
}

/// What an error on sending means for the frames.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Again,
    Wait,
    AskAgain,
    DropOne(DropReason),
    DropAll(DropReason),
}

fn fate(error: &io::Error, full_unsaid: Option<libc::c_int>) -> Fate {
    match error.raw_os_error().unwrap_or(0) {
        code if Some(code) == full_unsaid => Fate::AskAgain,
        libc::EINTR => Fate::Again,
        libc::EAGAIN => Fate::Wait,
        libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM => Fate::DropOne(DropReason::Refused),
        // ECONNREFUSED, ENOTCONN, EPERM, ECONNRESET, EPIPE, EDESTADDRREQ; anything new is as final as these.
        _ => Fate::DropAll(DropReason::PeerGone),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Port, mmsg_macos, mmsg_other};
    use super::*;
    use crate::frame;
    use crate::pool::BATCH;
    use crate::vnet_header;

    type Receive = fn(&UnixDatagram, &mut Batch) -> io::Result<usize>;
    type Send = fn(&UnixDatagram, &[FrameRef<'_>]) -> io::Result<usize>;

    /// The ways to make the calls, and the room with which the first takes its two ways.
    const WAYS: [(&str, Receive, Send, usize); 4] = [
        ("batch", mmsg::receive, mmsg::send, BATCH),
        ("one", mmsg::receive, mmsg::send, 1),
        ("fallback", mmsg_other::receive, mmsg_other::send, BATCH),
        ("apple", mmsg_macos::double::receive, mmsg_macos::double::send, BATCH),
    ];

    fn pair() -> (UnixDatagram, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        for socket in [&near, &far] {
            socket.set_nonblocking(true).unwrap();
            descriptor::set_socket_option(socket.as_fd(), libc::SO_SNDBUF, 1 << 20).unwrap();
        }
        (near, far)
    }

    fn port() -> (Dgram, UnixDatagram) {
        let (near, far) = pair();
        (Dgram::new(near.into(), 99).unwrap(), far)
    }

    fn with_header(frame: &[u8]) -> Vec<u8> {
        [&[0; vnet_header::LEN], frame].concat()
    }

    #[test]
    fn datagrams_of_every_length_come_in_as_what_they_are() {
        let cases = [
            (0, Received::Nothing),
            (1, Received::Frame(1)),
            (14, Received::Frame(14)),
            (9_234, Received::Frame(9_234)),
            (frame::MAX_LEN, Received::Frame(frame::MAX_LEN)),
            (frame::MAX_LEN + 1, Received::Oversized),
            (frame::MAX_LEN + 5_000, Received::Oversized),
        ];
        for (way, receive, _, room) in WAYS {
            let (near, far) = pair();
            let mut batch = Batch::new();
            for (len, expected) in cases {
                let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
                far.send(&bytes).unwrap();
                batch.restart(room);
                assert_eq!(receive(&near, &mut batch).unwrap(), 1, "{way} {len}");
                assert_eq!(batch.received(0), expected, "{way} {len}");
                if let Received::Frame(_) = expected {
                    assert!(batch.frame(0).ethernet() == bytes, "{way} {len}");
                    assert_eq!(batch.frame(0).with_header()[..vnet_header::LEN], [0; vnet_header::LEN]);
                }
            }
            batch.restart(room);
            assert_eq!(receive(&near, &mut batch).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{way}");
        }
    }

    #[test]
    fn a_header_of_the_slots_last_frame_does_not_stay() {
        for (way, receive, _, room) in WAYS {
            let (near, far) = pair();
            let mut batch = Batch::new();
            batch.restart(room);
            batch.free_slots().for_each(|slot| slot.fill(0xff));
            far.send(&[7; 60]).unwrap();
            receive(&near, &mut batch).unwrap();
            assert_eq!(batch.header(0), vnet_header::VnetHeader::default(), "{way}");
        }
    }

    #[test]
    fn a_batch_goes_out_in_order_and_without_headers() {
        for (way, _, send, _) in WAYS {
            let (near, far) = pair();
            let frames: Vec<_> = (14..24).map(|len| with_header(&vec![len as u8; len])).collect();
            let refs: Vec<_> = frames.iter().map(|bytes| FrameRef::new(bytes)).collect();
            assert_eq!(send(&near, &refs).unwrap(), 10, "{way}");
            assert_eq!(send(&near, &refs[..1]).unwrap(), 1, "{way}");
            for len in (14..24).chain([14]) {
                let mut buffer = [0; 100];
                assert_eq!(far.recv(&mut buffer).unwrap(), len, "{way}");
                assert!(buffer[..len].iter().all(|byte| usize::from(*byte) == len));
            }
        }
    }

    #[test]
    fn a_peer_that_does_not_read_stops_the_sending_but_loses_nothing() {
        for count in [1, BATCH] {
            let (mut port, far) = port();
            let bytes = with_header(&[7; 1_514]);
            let frames = vec![FrameRef::new(&bytes); count];
            let mut counters = Counters::default();
            while port.send(&frames, &mut counters) == Ok(count) {}
            let mut received = 0;
            while far.recv(&mut [0; 2_000]).is_ok() {
                received += 1;
            }
            assert_eq!(counters.tx_frames, received);
            assert_eq!(counters.dropped_frames(), 0);
        }
    }

    #[test]
    fn frames_for_a_peer_that_is_gone_are_dropped_by_that_name() {
        let (mut port, far) = port();
        drop(far);
        let bytes = with_header(&[7; 60]);
        let mut counters = Counters::default();
        for _ in 0..2 {
            assert_eq!(port.send(&[FrameRef::new(&bytes); 3], &mut counters), Ok(3));
        }
        assert_eq!(counters.drops(DropReason::PeerGone), 6);
        assert_eq!(counters.tx_frames, 0);
        assert_eq!(port.health(), Ok(()));
        assert_eq!(port.receive(&mut Batch::new()), Ok(()));
    }

    #[test]
    fn a_frame_too_long_for_the_socket_costs_only_itself() {
        let (near, far) = pair();
        descriptor::set_socket_option(near.as_fd(), libc::SO_SNDBUF, 1).unwrap();
        let smallest =
            usize::try_from(descriptor::socket_option(near.as_fd(), libc::SO_SNDBUF).unwrap()).unwrap();
        let mut port = Dgram { socket: near, end: End::Elsewhere, sender_room: 0, room: Backoff::new(LONGEST) };
        let (short, long) = (with_header(&[7; 60]), with_header(&vec![7; smallest]));
        let mut counters = Counters::default();
        let frames = [FrameRef::new(&short), FrameRef::new(&long), FrameRef::new(&short)];
        assert_eq!(port.send(&frames, &mut counters), Ok(3));
        assert_eq!((counters.tx_frames, counters.drops(DropReason::Refused)), (2, 1));
        assert_eq!(far.recv(&mut [0; 100]).unwrap(), 60);
        assert_eq!(far.recv(&mut [0; 100]).unwrap(), 60);
    }

    #[test]
    fn no_room_is_waited_for_or_asked_about_as_the_system_tells() {
        let error = io::Error::from_raw_os_error;
        assert_eq!(fate(&error(libc::ENOBUFS), Some(libc::ENOBUFS)), Fate::AskAgain);
        assert_eq!(fate(&error(libc::ENOBUFS), None), Fate::DropOne(DropReason::Refused));
        assert_eq!(fate(&error(libc::EAGAIN), Some(libc::ENOBUFS)), Fate::Wait);
    }

    #[test]
    fn only_connected_datagram_sockets_become_ports() {
        let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
        let unconnected = UnixDatagram::unbound().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for own in [OwnedFd::from(stream), OwnedFd::from(unconnected), OwnedFd::from(file)] {
            assert!(matches!(Dgram::new(own, 99), Err(PortError::WrongKind { fd: 99, .. })));
        }
    }

    /// A connected pair of `SOCK_SEQPACKET`, which the standard library does not know.
    #[cfg(target_os = "linux")]
    fn packets() -> (Dgram, UnixDatagram) {
        let (near, far) = descriptor::packet_pair().unwrap();
        (Dgram::new(near, 99).unwrap(), far.into())
    }

    #[cfg(target_os = "linux")]
    fn lens(batch: &Batch) -> Vec<usize> {
        (0..batch.len()).map(|index| batch.frame(index).ethernet().len()).filter(|len| *len > 0).collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn packets_that_came_before_the_end_are_read_before_it() {
        for room in [1, BATCH] {
            let (mut port, far) = packets();
            for len in [60, 1_514, frame::MAX_LEN] {
                far.send(&vec![7; len]).unwrap();
            }
            drop(far);
            assert_eq!(port.health(), Ok(()));
            let (mut batch, mut read) = (Batch::new(), Vec::new());
            let result = loop {
                batch.restart(room);
                let result = port.receive(&mut batch);
                read.extend(lens(&batch));
                if result.is_err() {
                    break result;
                }
            };
            assert_eq!(result, Err(Down::closed()));
            assert_eq!(read, [60, 1_514, frame::MAX_LEN]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_peer_of_packets_that_is_there_is_not_given_up() {
        let (mut port, far) = packets();
        let mut batch = Batch::new();
        batch.restart(BATCH);
        assert_eq!(port.receive(&mut batch), Ok(()));
        far.send(&[7; 60]).unwrap();
        assert_eq!(port.receive(&mut batch), Ok(()));
        assert_eq!(lens(&batch), [60]);
        assert!(!port.sender_waits());
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(port.receive(&mut batch), Err(Down::closed()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn frames_for_a_peer_of_packets_that_is_gone_are_dropped_until_its_end_is_read() {
        let (mut port, far) = packets();
        drop(far);
        let bytes = with_header(&[7; 60]);
        let mut counters = Counters::default();
        assert_eq!(port.send(&[FrameRef::new(&bytes); 3], &mut counters), Ok(3));
        assert_eq!(counters.drops(DropReason::PeerGone), 3);
        assert_eq!(port.receive(&mut Batch::new()), Err(Down::closed()));
    }

    #[test]
    fn a_peer_on_its_own_is_down_with_the_first_frame_that_finds_it_gone() {
        let (near, far) = pair();
        let mut port = Dgram::alone(near.into(), 99).unwrap();
        let bytes = with_header(&[7; 60]);
        let mut counters = Counters::default();
        assert_eq!(port.send(&[FrameRef::new(&bytes)], &mut counters), Ok(1));
        assert_eq!(port.receive(&mut Batch::new()), Ok(()));
        assert_eq!(port.health(), Ok(()));
        far.send(&[]).unwrap();
        assert_eq!(port.receive(&mut Batch::new()), Ok(()));
        drop(far);
        assert_eq!(port.send(&[FrameRef::new(&bytes); 2], &mut counters), Err(Down::closed()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_that_is_alone_takes_no_packets() {
        let (near, _far) = descriptor::packet_pair().unwrap();
        assert!(matches!(Dgram::alone(near, 99), Err(PortError::WrongKind { fd: 99, .. })));
    }

    #[test]
    fn a_buffer_that_is_larger_already_is_left_alone() {
        let (near, _far) = pair();
        let most = descriptor::socket_option(near.as_fd(), libc::SO_SNDBUF).unwrap();
        let port = Dgram::new(near.into(), 99).unwrap();
        assert_eq!(descriptor::socket_option(port.socket.as_fd(), libc::SO_SNDBUF).unwrap(), most);
    }
}
