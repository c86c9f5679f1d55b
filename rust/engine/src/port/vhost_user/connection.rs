//! The connection to a front end, on which it sets its device up: rust-vmm's handler, with what it lacks.
//!
//! That reads and writes with calls that wait (or try for ever), so that it is asked only when a whole message is
//! there, and only while the front end reads the answers. Three messages are not for it: QEMU enables its rings before
//! the features are agreed on, which it refuses, and two it does not know.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vhost::vhost_user::{BackendReqHandler, VhostUserProtocolFeatures};

use super::device::Device;
use super::notice::Watch;
use crate::frame::MacAddress;
use crate::port::{Down, descriptor};

// From the vhost-user specification.
const HEADER_LEN: usize = 12;
const SET_VRING_ENABLE: u32 = 18;
const SEND_RARP: u32 = 19;
const NET_SET_MTU: u32 = 20;
const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;

/// Longest message that a front end has reason to send: a table of eight regions has 264 bytes.
const MOST_BYTES: usize = 4096;

/// Messages in one turn. Chosen: a start takes fifty; others wait for less than a millisecond.
const MOST_MESSAGES: usize = 16;

/// Bytes that the kernel may keep of our answers. Chosen: a hundred of them; a front end reads each one before it
/// says anything else.
const MOST_UNREAD: libc::c_int = 64 << 10;

/// A message that is there, whole.
struct Header {
    request: u32,
    flags: u32,
    size: usize,
}

/// What the messages of one turn came to.
pub(super) enum Said {
    /// Nothing is left, as far as we know.
    All,
    /// There may be more.
    More,
}

/// See the module's head.
pub(super) struct Connection {
    socket: UnixStream,
    handler: BackendReqHandler<Mutex<Device>>,
    device: Arc<Mutex<Device>>,
    /// Stations that are to be announced on behalf of the guest.
    announced: Vec<MacAddress>,
}

impl Connection {
    pub(super) fn new(own: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from(own);
        let watch = Watch::new()?;
        watch.add_connection(&socket)?;
        let device = Arc::new(Mutex::new(Device::new(watch)));
        let handler = BackendReqHandler::from_stream(socket.try_clone()?, Arc::clone(&device));
        Ok(Self { socket, handler, device, announced: Vec::new() })
    }

    /// The device, which nobody else uses while a call of ours is not under way.
    pub(super) fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next station to announce.
    pub(super) fn take_announced(&mut self) -> Option<MacAddress> {
        self.announced.pop()
    }

    /// Obey the messages that are there, a few at most.
    ///
    /// # Errors
    /// [`Down`] when the front end has gone, or said what it may not say.
    pub(super) fn obey(&mut self) -> Result<Said, Down> {
        for _ in 0..MOST_MESSAGES {
            let Some(header) = self.peek()? else { return Ok(Said::All) };
            if self.unread()? > MOST_UNREAD {
                return Err(Down("The front end does not read our answers".into()));
            }
            match header.request {
                SET_VRING_ENABLE | SEND_RARP | NET_SET_MTU => self.obey_here(&header)?,
                request => self
                    .handler
                    .handle_request()
                    .map_err(|error| Down(format!("The front end's message {request} was refused: {error}")))?,
            }
        }
        Ok(Said::More)
    }

    /// What comes next, if all of it is there.
    fn peek(&self) -> Result<Option<Header>, Down> {
        let mut bytes = [0; HEADER_LEN];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        // SAFETY: pointer and length are those of `bytes`, which outlives the call.
        let got = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                io::ErrorKind::ConnectionReset => Err(Down::closed()),
                _ => Err(Down(error.to_string())),
            };
        };
        if got == 0 {
            return Err(Down::closed());
        }
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Header { request: word(0), flags: word(4), size: word(8) as usize };
        if got < HEADER_LEN {
            return self.wait();
        }
        if header.size > MOST_BYTES {
            return Err(Down(format!("The front end sent a message of {} bytes", header.size)));
        }
        if (self.ask(libc::FIONREAD)? as usize) < HEADER_LEN + header.size {
            return self.wait();
        }
        Ok(Some(header))
    }

    /// For the rest of a message, unless there will be none.
    fn wait(&self) -> Result<Option<Header>, Down> {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) };
        if poll.revents != 0 { Err(Down::closed()) } else { Ok(None) }
    }

    /// Bytes of ours that the front end has not read, counted as the kernel does.
    fn unread(&self) -> Result<libc::c_int, Down> {
        self.ask(libc::TIOCOUTQ)
    }

    fn ask(&self, what: libc::Ioctl) -> Result<libc::c_int, Down> {
        let mut answer: libc::c_int = 0;
        // SAFETY: both questions are answered with one int, where the pointer says; `answer` outlives the call.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), what, &raw mut answer) };
        descriptor::check(result).map_err(|error| Down(error.to_string()))?;
        Ok(answer)
    }

    /// A message that is not for the handler; it is there.
    fn obey_here(&mut self, header: &Header) -> Result<(), Down> {
        let wrong = |why: &str| Down(format!("The front end's message {} was refused: {why}", header.request));
        let mut bytes = [0; HEADER_LEN + 8];
        if header.size != 8 || header.flags & VERSION_MASK != VERSION || header.flags & REPLY != 0 {
            return Err(wrong("invalid message"));
        }
        self.socket.read_exact(&mut bytes).map_err(|error| wrong(&error.to_string()))?;
        let body = &bytes[HEADER_LEN..];
        let word = |at: usize| u32::from_ne_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        match header.request {
            SET_VRING_ENABLE if word(4) <= 1 => {
                self.device().enable(word(0), word(4) == 1).map_err(|error| wrong(&error.to_string()))?;
            }
            SEND_RARP if self.announced.len() < MOST_MESSAGES => {
                self.announced.extend(body.first_chunk().copied().map(MacAddress));
            }
            // How long frames may be is for the guest to heed.
            NET_SET_MTU | SEND_RARP => {}
            _ => return Err(wrong("invalid parameters")),
        }
        if header.flags & NEED_REPLY != 0 && self.device().agreed(VhostUserProtocolFeatures::REPLY_ACK) {
            let mut answer = [0; HEADER_LEN + 8];
            answer[..4].copy_from_slice(&header.request.to_ne_bytes());
            answer[4..8].copy_from_slice(&(VERSION | REPLY).to_ne_bytes());
            answer[8..12].copy_from_slice(&8_u32.to_ne_bytes());
            self.socket.write_all(&answer).map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(())
    }
}

impl AsRawFd for Connection {
    /// Of the poller, see `notice`.
    fn as_raw_fd(&self) -> RawFd {
        self.device().watch().descriptor()
    }
}
