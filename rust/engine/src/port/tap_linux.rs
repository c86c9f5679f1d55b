//! A Linux TAP or macvtap with `IFF_VNET_HDR` and a 12-byte header; one read or write is one frame.
//!
//! Facts this file rests on: the kernel writes `num_buffers` as 0 and does not look at it; writing while the
//! interface is down is EIO and passes; EBADFD, ENODEV or ENOLINK say that the interface is gone.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use super::{Down, Port, PortError, descriptor};
use crate::pool::{Batch, FrameRef, Received};
use crate::stats::{Counters, DropReason};
use crate::vnet_header::{self, Offloads};

const WANTED: &str = "a TAP with IFF_VNET_HDR and a 12-byte header";

/// The port. See the module's head.
pub struct Tap {
    device: OwnedFd,
    /// Whether this kernel takes UDP super-frames.
    uso: bool,
}

impl Tap {
    /// `own` is what the caller called `given`; messages name that.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but a TAP set up as the module's head says.
    pub fn new(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        let tap = Self { device: own, uso: takes_udp_super_frames(&kernel_release()) };
        let wrong = || PortError::WrongKind { fd: given, wanted: WANTED };
        let flags = tap.interface_flags().map_err(|_| wrong())?;
        let needed = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        let header_len = tap.header_len().map_err(|_| wrong())?;
        if flags & needed != needed || usize::try_from(header_len) != Ok(vnet_header::LEN) {
            return Err(wrong());
        }
        descriptor::set_nonblocking(tap.device.as_fd())
            .map_err(|source| PortError::Unusable { fd: given, source })?;
        Ok(tap)
    }

    fn interface_flags(&self) -> io::Result<libc::c_short> {
        // SAFETY: all-zero bytes are a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF writes one ifreq to where the pointer says, and `request` outlives the call.
        descriptor::check(unsafe {
            libc::ioctl(self.device.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request)
        })?;
        // SAFETY: TUNGETIFF has filled the flags member of the union.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }

    fn header_len(&self) -> io::Result<libc::c_int> {
        let mut len: libc::c_int = 0;
        let target = &raw mut len;
        // SAFETY: TUNGETVNETHDRSZ writes one int to where the pointer says, and `len` outlives the call.
        descriptor::check(unsafe { libc::ioctl(self.device.as_raw_fd(), libc::TUNGETVNETHDRSZ as _, target) })?;
        Ok(len)
    }
}

impl Port for Tap {
    fn descriptor(&self) -> RawFd {
        self.device.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        loop {
            let Some(slot) = batch.free_slots().next() else { return Ok(()) };
            // SAFETY: pointer and length are those of a slot that outlives the call.
            let result = unsafe { libc::read(self.device.as_raw_fd(), slot.as_mut_ptr().cast(), slot.len()) };
            let Ok(len) = usize::try_from(result) else {
                let error = io::Error::last_os_error();
                match error.raw_os_error().unwrap_or(0) {
                    libc::EINTR => continue,
                    libc::EAGAIN | libc::EIO => return Ok(()),
                    _ => return Err(Down(error.to_string())),
                }
            };
            match len.checked_sub(vnet_header::LEN) {
                None | Some(0) => batch.push(Received::Nothing, None),
                Some(len) => batch.push(Received::Frame(len), None),
            }
        }
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut taken = 0;
        while let Some(frame) = frames.get(taken) {
            let bytes = frame.with_header();
            // SAFETY: pointer and length are those of a slice that outlives the call.
            let result = unsafe { libc::write(self.device.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
            if result >= 0 {
                counters.sent(frame.ethernet().len());
                taken += 1;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error().unwrap_or(0) {
                libc::EINTR => continue,
                libc::EAGAIN => break,
                libc::EIO => counters.dropped(DropReason::InterfaceDown),
                libc::EBADFD | libc::ENODEV | libc::ENXIO | libc::ENOLINK => {
                    return Err(Down(error.to_string()));
                }
                // EINVAL, ENOBUFS, ENOMEM, EMSGSIZE: this frame, or this moment.
                _ => counters.dropped(DropReason::Refused),
            }
            taken += 1;
        }
        Ok(taken)
    }

    fn health(&mut self) -> Result<(), Down> {
        self.interface_flags().map(drop).map_err(|error| Down(error.to_string()))
    }

    fn offloads(&self) -> Offloads {
        Offloads { uso: self.uso, ..Offloads::ALL }
    }
}

fn kernel_release() -> String {
    // SAFETY: all-zero bytes are a valid utsname.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes to `name`, which outlives it, and every string in it ends with a zero.
    unsafe { libc::uname(&raw mut name) };
    // SAFETY: see above; when the call failed, the string is empty.
    unsafe { std::ffi::CStr::from_ptr(name.release.as_ptr()) }.to_string_lossy().into_owned()
}

/// Since Linux 6.2; nothing else says so before one is written.
fn takes_udp_super_frames(release: &str) -> bool {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let (major, minor): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (6, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_super_frames_are_for_kernels_that_take_them() {
        for (release, takes) in [
            ("6.1.0-32-amd64", false),
            ("6.2.0", true),
            ("6.18.44", true),
            ("10.0-rc1", true),
            ("5.15.0", false),
            ("", false),
            ("x", false),
        ] {
            assert_eq!(takes_udp_super_frames(release), takes, "{release}");
        }
        assert!(kernel_release().contains('.'));
    }
}
