//! Addresses of UNIX sockets as the kernel has them, and as the bytes that the rest of the engine knows.
//!
//! The bytes of a path are the path; those of an abstract name (Linux) begin with a zero; a socket that is not bound
//! has none.
#![allow(unsafe_code)]

use std::mem::{self, offset_of};

use crate::pool::BATCH;

/// One address.
#[derive(Clone, Copy)]
pub(super) struct Name {
    address: libc::sockaddr_un,
    len: libc::socklen_t,
}

const PATH_AT: usize = offset_of!(libc::sockaddr_un, sun_path);
const LONGEST: usize = size_of::<libc::sockaddr_un>() - PATH_AT;

impl Name {
    /// To be filled by the kernel.
    const fn empty() -> Self {
        // SAFETY: all-zero bytes are a valid sockaddr_un.
        Self { address: unsafe { mem::zeroed() }, len: size_of::<libc::sockaddr_un>() as libc::socklen_t }
    }

    /// The address with these bytes; `None` when no address has them.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        // A path must leave room for the zero behind it.
        let most = if bytes.first() == Some(&0) { LONGEST } else { LONGEST - 1 };
        if bytes.is_empty() || bytes.len() > most {
            return None;
        }
        let mut name = Self::empty();
        name.address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in name.address.sun_path.iter_mut().zip(bytes) {
            *place = *byte as libc::c_char;
        }
        name.len = (PATH_AT + bytes.len()) as libc::socklen_t;
        Some(name)
    }

    /// See the module's head.
    pub(super) fn bytes(&self) -> &[u8] {
        let len = (self.len as usize).saturating_sub(PATH_AT).min(LONGEST);
        // SAFETY: `len` is at most the length of `sun_path`, every byte of which is initialised.
        let bytes: &[u8] = unsafe { std::slice::from_raw_parts(self.address.sun_path.as_ptr().cast(), len) };
        if bytes.first() == Some(&0) && cfg!(target_os = "linux") {
            return bytes;
        }
        bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
    }

    /// For a `msghdr`; valid as long as this stays where it is.
    pub(super) fn as_message_name(&self) -> (*mut libc::c_void, libc::socklen_t) {
        // The kernel only reads from it, whatever the type says.
        ((&raw const self.address).cast_mut().cast(), self.len)
    }
}

/// The senders of a batch.
pub(super) struct Names {
    names: Box<[Name]>,
}

impl Default for Names {
    fn default() -> Self {
        Self { names: vec![Name::empty(); BATCH].into_boxed_slice() }
    }
}

impl Names {
    /// Where the kernel is to write the sender of datagram `index`, and how much room there is.
    pub(super) fn place(&mut self, index: usize) -> (*mut libc::c_void, libc::socklen_t) {
        self.names[index] = Name::empty();
        ((&raw mut self.names[index].address).cast(), size_of::<libc::sockaddr_un>() as libc::socklen_t)
    }

    /// The kernel has written so much there.
    pub(super) fn written(&mut self, index: usize, len: libc::socklen_t) {
        self.names[index].len = len;
    }

    /// The sender of datagram `index`; empty when it has no name.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        self.names[index].bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_a_name_and_come_back() {
        for bytes in [&b"/run/guest"[..], b"x", &[b'x'; 107], b"\0abstract"] {
            assert_eq!(Name::new(bytes).unwrap().bytes(), bytes);
        }
    }

    #[test]
    fn what_no_socket_is_called_is_no_name() {
        assert!(Name::new(b"").is_none());
        assert!(Name::new(&[b'x'; 108]).is_none());
        assert!(Name::new(&[0; 109]).is_none());
    }

    #[test]
    fn a_sender_without_a_name_has_no_bytes() {
        let mut names = Names::default();
        names.place(0);
        names.written(0, 0);
        assert_eq!(names.get(0), b"");
        names.written(0, PATH_AT as libc::socklen_t);
        assert_eq!(names.get(0), b"");
    }
}
