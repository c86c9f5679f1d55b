//! `recvmsg_x` and `sendmsg_x`, which macOS has in place of `recvmmsg` and `sendmmsg`: a batch of datagrams in one call.
//!
//! Apple exports them and declares them nowhere public, so that they are looked up when the program runs; where they are
//! missing, or refuse what is asked of them, datagrams go one by one.
//!
//! Facts this file rests on (XNU's sources): both take an array of what is declared below; `MSG_DONTWAIT` is the only
//! flag; one call takes 256 at most; receiving stops behind a datagram that was cut off; sending wants no names,
//! and stops before a datagram that it does not take, and only when that is the first one says why. Whether
//! receiving writes names down is said nowhere, so that a door reads one by one.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::mmsg_other;
#[cfg(not(target_os = "linux"))]
pub(super) use super::mmsg_other::{FULL_UNSAID, receive_from, send_to};
use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::vnet_header::{self, VnetHeader};

/// `struct msghdr_x`: Apple's `msghdr`, and the length of the datagram.
#[repr(C)]
struct Message {
    name: *mut c_void,
    name_len: u32,
    iov: *mut libc::iovec,
    iov_len: c_int,
    control: *mut c_void,
    control_len: u32,
    flags: c_int,
    /// Written when one is received, zero when one is sent: its length is that of the iovec.
    data_len: usize,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Message>() == 56);
    assert!(offset_of!(Message, iov) == 16 && offset_of!(Message, iov_len) == 24);
    assert!(offset_of!(Message, control) == 32 && offset_of!(Message, control_len) == 40);
    assert!(offset_of!(Message, flags) == 44 && offset_of!(Message, data_len) == 48);
};

/// `ssize_t f(int s, const struct msghdr_x *msgp, u_int cnt, int flags)`
type Call = unsafe extern "C" fn(c_int, *const Message, c_uint, c_int) -> isize;

/// The two of them.
#[derive(Clone, Copy)]
struct Calls {
    receive: Call,
    send: Call,
}

/// They refused what was asked of them once, so that they are not what is declared here.
static UNSUITABLE: AtomicBool = AtomicBool::new(false);

/// Those of this system, if it has them.
fn system() -> Option<Calls> {
    static FOUND: OnceLock<Option<Calls>> = OnceLock::new();
    let found =
        FOUND.get_or_init(|| Some(Calls { receive: look_up(c"recvmsg_x")?, send: look_up(c"sendmsg_x")? }));
    found.filter(|_| !UNSUITABLE.load(Ordering::Relaxed))
}

fn look_up(name: &CStr) -> Option<Call> {
    // SAFETY: the name is a string that ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: a function of one of these names is one of the two system calls, of the type above.
    (!address.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Call>(address) })
}

/// Read as many datagrams as `batch` has room for and say how many there were.
pub(super) fn receive(socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
    // For one the plain call is cheaper.
    let calls = system().filter(|_| batch.room() > 1);
    or_one_by_one(
        batch,
        calls,
        |batch, calls| receive_by(calls, socket, batch),
        |batch| mmsg_other::receive(socket, batch),
    )
}

/// Send `frames` (at least one; the first [`BATCH`] of them) and say how many the kernel took.
pub(super) fn send(socket: &UnixDatagram, frames: &[FrameRef<'_>]) -> io::Result<usize> {
    let calls = system().filter(|_| frames.len() > 1);
    or_one_by_one(
        &mut (),
        calls,
        |(), calls| send_by(calls, socket, frames),
        |()| mmsg_other::send(socket, frames),
    )
}

/// By the calls if there are any, which move nothing when they refuse the arguments.
fn or_one_by_one<T>(
    what: &mut T,
    calls: Option<Calls>,
    at_once: impl FnOnce(&mut T, Calls) -> io::Result<usize>,
    one_by_one: impl FnOnce(&mut T) -> io::Result<usize>,
) -> io::Result<usize> {
    let Some(calls) = calls else { return one_by_one(what) };
    match at_once(what, calls) {
        Err(error) if is_unsuitable(&error) => {
            UNSUITABLE.store(true, Ordering::Relaxed);
            one_by_one(what)
        }
        result => result,
    }
}

fn is_unsuitable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EFAULT))
}

fn message(iov: *mut libc::iovec) -> Message {
    Message {
        name: ptr::null_mut(),
        name_len: 0,
        iov,
        iov_len: 1,
        control: ptr::null_mut(),
        control_len: 0,
        flags: 0,
        data_len: 0,
    }
}

fn receive_by(calls: Calls, socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<Message>::uninit() }; BATCH];
    let mut prepared = 0;
    for (slot, (iov, place)) in batch.free_slots().zip(iovs.iter_mut().zip(&mut messages)) {
        // One byte of the slot is left alone: here the kernel says when a datagram was too long.
        let iov_len = slot.len() - vnet_header::LEN - 1;
        let iov_base = slot[vnet_header::LEN..].as_mut_ptr().cast();
        place.write(message(iov.write(libc::iovec { iov_base, iov_len })));
        prepared += 1;
    }
    // SAFETY: the first `prepared` messages were written above; each points to its own iovec in `iovs`, and that into its
    // own slot of `batch`. Nothing else uses any of them before the call returns, which writes to the messages too.
    let result = unsafe { call(calls.receive, socket, messages.as_mut_ptr().cast(), prepared) };
    let got = result?.min(prepared);
    for message in &messages[..got] {
        // SAFETY: `got` is at most `prepared`, and those messages were written.
        let message = unsafe { message.assume_init_ref() };
        let received = match message.data_len {
            _ if message.flags & libc::MSG_TRUNC != 0 => Received::Oversized,
            0 => Received::Nothing,
            len => Received::Frame(len),
        };
        batch.push(received, Some(VnetHeader::default()));
    }
    Ok(got)
}

fn send_by(calls: Calls, socket: &UnixDatagram, frames: &[FrameRef<'_>]) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<Message>::uninit() }; BATCH];
    let mut prepared = 0;
    for (frame, (iov, place)) in frames.iter().zip(iovs.iter_mut().zip(&mut messages)) {
        let bytes = frame.ethernet();
        // The kernel only reads from it, whatever the type says.
        let iov_base = bytes.as_ptr().cast_mut().cast();
        place.write(message(iov.write(libc::iovec { iov_base, iov_len: bytes.len() })));
        prepared += 1;
    }
    // SAFETY: the first `prepared` messages were written above; each points to its own iovec in `iovs`, and that to a
    // frame that is borrowed for longer than this call.
    let result = unsafe { call(calls.send, socket, messages.as_mut_ptr().cast(), prepared) };
    result.map(|count| count.min(prepared))
}

/// # Safety
/// The first `count` of `messages` must be written and describe memory that `function` may use.
unsafe fn call(
    function: Call,
    socket: &UnixDatagram,
    messages: *mut Message,
    count: usize,
) -> io::Result<usize> {
    // SAFETY: see above.
    let result = unsafe { function(socket.as_raw_fd(), messages, count as c_uint, libc::MSG_DONTWAIT) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The two calls by `recvmsg` and `sendmsg`, as strict as XNU's sources have them.
#[cfg(test)]
pub(super) mod double {
    use super::*;

    const CALLS: Calls = Calls { receive: receive_x, send: send_x };

    pub(in crate::port) fn receive(socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
        receive_by(CALLS, socket, batch)
    }

    pub(in crate::port) fn send(socket: &UnixDatagram, frames: &[FrameRef<'_>]) -> io::Result<usize> {
        send_by(CALLS, socket, frames)
    }

    /// # Safety
    /// There must be `count` messages.
    unsafe fn checked<'a>(messages: *const Message, count: c_uint, flags: c_int) -> &'a mut [Message] {
        assert!((1..=256).contains(&count) && flags == libc::MSG_DONTWAIT);
        // SAFETY: see above.
        let messages = unsafe { std::slice::from_raw_parts_mut(messages.cast_mut(), count as usize) };
        for message in messages.iter() {
            assert!(message.name.is_null() && message.control.is_null());
            assert_eq!((message.name_len, message.control_len, message.iov_len), (0, 0, 1));
            assert_eq!((message.flags, message.data_len), (0, 0));
        }
        messages
    }

    /// # Safety
    /// The message must have one iovec, to memory that may be used.
    unsafe fn plain(message: &Message) -> libc::msghdr {
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        (header.msg_iov, header.msg_iovlen) = (message.iov, 1);
        header
    }

    unsafe extern "C" fn receive_x(fd: c_int, messages: *const Message, count: c_uint, flags: c_int) -> isize {
        // SAFETY: as the caller says.
        unsafe {
            let mut got = 0;
            for message in checked(messages, count, flags) {
                let mut header = plain(message);
                let len = libc::recvmsg(fd, &raw mut header, flags);
                if len < 0 {
                    break;
                }
                (message.data_len, message.flags) = (len as usize, header.msg_flags);
                got += 1;
                if header.msg_flags & libc::MSG_TRUNC != 0 {
                    break;
                }
            }
            if got > 0 { got } else { -1 }
        }
    }

    unsafe extern "C" fn send_x(fd: c_int, messages: *const Message, count: c_uint, flags: c_int) -> isize {
        // SAFETY: as the caller says.
        unsafe {
            let mut sent = 0;
            for message in checked(messages, count, flags) {
                let header = plain(message);
                if libc::sendmsg(fd, &raw const header, flags) < 0 {
                    break;
                }
                sent += 1;
            }
            if sent > 0 { sent } else { -1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixDatagram, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    fn refuse(error: libc::c_int) -> impl FnOnce(&mut u32, Calls) -> io::Result<usize> {
        move |tries, _| {
            *tries += 1;
            Err(io::Error::from_raw_os_error(error))
        }
    }

    unsafe extern "C" fn never(_: c_int, _: *const Message, _: c_uint, _: c_int) -> isize {
        -1
    }

    #[test]
    fn a_system_that_does_not_know_the_calls_as_they_are_here_is_asked_no_more() {
        let calls = Some(Calls { receive: never, send: never });
        let mut tries = 0;
        let full = or_one_by_one(&mut tries, calls, refuse(libc::ENOBUFS), |_| Ok(7));
        assert_eq!(full.unwrap_err().raw_os_error(), Some(libc::ENOBUFS));
        assert!(!UNSUITABLE.load(Ordering::Relaxed));
        assert_eq!(or_one_by_one(&mut tries, calls, refuse(libc::EINVAL), |_| Ok(7)).unwrap(), 7);
        assert!(UNSUITABLE.load(Ordering::Relaxed) && system().is_none());
        assert_eq!(tries, 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_there_are_none_datagrams_go_one_by_one() {
        assert!(look_up(c"recvmsg_x").is_none() && system().is_none());
        let (near, far) = pair();
        let bytes = [7; vnet_header::LEN + 60];
        assert_eq!(send(&near, &[FrameRef::new(&bytes); 3]).unwrap(), 3);
        (0..3).for_each(|_| assert_eq!(far.send(&[7; 60]).unwrap(), 60));
        let mut batch = Batch::new();
        assert_eq!(receive(&near, &mut batch).unwrap(), 3);
        assert_eq!(batch.received(2), Received::Frame(60));
    }

    #[test]
    fn what_is_behind_a_datagram_that_was_cut_off_comes_with_the_next_call() {
        let (near, far) = pair();
        super::super::descriptor::set_socket_option(std::os::fd::AsFd::as_fd(&far), libc::SO_SNDBUF, 1 << 20)
            .unwrap();
        far.send(&[7; 60]).unwrap();
        far.send(&vec![7; crate::frame::MAX_LEN + 1]).unwrap();
        far.send(&[7; 61]).unwrap();
        let mut batch = Batch::new();
        assert_eq!(double::receive(&near, &mut batch).unwrap(), 2);
        assert_eq!(double::receive(&near, &mut batch).unwrap(), 1);
        let received: Vec<_> = (0..batch.len()).map(|index| batch.received(index)).collect();
        assert_eq!(received, [Received::Frame(60), Received::Oversized, Received::Frame(61)]);
    }
}
