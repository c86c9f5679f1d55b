//! Socket addresses as the kernel and libslirp want them.
#![allow(unsafe_code)]

use std::net::SocketAddr;

use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

/// One address, of either family.
pub(super) enum Raw {
    V4(sockaddr_in),
    V6(sockaddr_in6),
}

impl From<SocketAddr> for Raw {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: all-zero bytes are a valid sockaddr_in.
                let mut raw: sockaddr_in = unsafe { std::mem::zeroed() };
                raw.sin_family = libc::AF_INET as sa_family_t;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                Self::V4(raw)
            }
            SocketAddr::V6(v6) => {
                // SAFETY: all-zero bytes are a valid sockaddr_in6.
                let mut raw: sockaddr_in6 = unsafe { std::mem::zeroed() };
                raw.sin6_family = libc::AF_INET6 as sa_family_t;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                Self::V6(raw)
            }
        }
    }
}

impl Raw {
    pub(super) fn pointer(&self) -> *const sockaddr {
        match self {
            Self::V4(raw) => std::ptr::from_ref(raw).cast(),
            Self::V6(raw) => std::ptr::from_ref(raw).cast(),
        }
    }

    pub(super) fn len(&self) -> socklen_t {
        let len = match self {
            Self::V4(_) => size_of::<sockaddr_in>(),
            Self::V6(_) => size_of::<sockaddr_in6>(),
        };
        len as socklen_t
    }
}
