//! libslirp's interface as declared in its header `libslirp.h` (4.7), with configuration version 4.
//!
//! The library is opened by the control plane, which hands the addresses of its functions over; nothing here
//! knows a symbol's name. A configuration of version 4 is taken by every libslirp from 4.7 on.

use libc::{c_char, c_int, c_void, in_addr, in6_addr, sockaddr, socklen_t, ssize_t};

/// An instance; only the library knows what is in it.
#[repr(C)]
pub(super) struct Stack {
    _opaque: [u8; 0],
}

/// `SLIRP_POLL_*`.
pub(super) const POLL_IN: c_int = 1;
pub(super) const POLL_OUT: c_int = 1 << 1;
pub(super) const POLL_HUP: c_int = 1 << 4;

/// `SLIRP_HOSTFWD_UDP`.
pub(super) const FORWARD_UDP: c_int = 1;

/// `SlirpTimerCb`.
pub(super) type TimerCall = unsafe extern "C" fn(*mut c_void);
/// `SlirpAddPollCb`.
pub(super) type AddPoll = unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int;
/// `SlirpGetREventsCb`.
pub(super) type GetEvents = unsafe extern "C" fn(c_int, *mut c_void) -> c_int;

/// `SlirpCb`.
#[repr(C)]
pub(super) struct Callbacks {
    pub(super) send_packet: unsafe extern "C" fn(*const c_void, usize, *mut c_void) -> ssize_t,
    pub(super) guest_error: unsafe extern "C" fn(*const c_char, *mut c_void),
    pub(super) clock_get_ns: unsafe extern "C" fn(*mut c_void) -> i64,
    pub(super) timer_new: unsafe extern "C" fn(TimerCall, *mut c_void, *mut c_void) -> *mut c_void,
    pub(super) timer_free: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub(super) timer_mod: unsafe extern "C" fn(*mut c_void, i64, *mut c_void),
    pub(super) register_poll_fd: unsafe extern "C" fn(c_int, *mut c_void),
    pub(super) unregister_poll_fd: unsafe extern "C" fn(c_int, *mut c_void),
    pub(super) notify: unsafe extern "C" fn(*mut c_void),
    pub(super) init_completed: Option<unsafe extern "C" fn(*mut Stack, *mut c_void)>,
    pub(super) timer_new_opaque: Option<unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> *mut c_void>,
}

/// `SlirpConfig`, version 4.
#[repr(C)]
pub(super) struct RawConfig {
    pub(super) version: u32,
    pub(super) restricted: c_int,
    pub(super) in_enabled: bool,
    pub(super) vnetwork: in_addr,
    pub(super) vnetmask: in_addr,
    pub(super) vhost: in_addr,
    pub(super) in6_enabled: bool,
    pub(super) vprefix_addr6: in6_addr,
    pub(super) vprefix_len: u8,
    pub(super) vhost6: in6_addr,
    pub(super) vhostname: *const c_char,
    pub(super) tftp_server_name: *const c_char,
    pub(super) tftp_path: *const c_char,
    pub(super) bootfile: *const c_char,
    pub(super) vdhcp_start: in_addr,
    pub(super) vnameserver: in_addr,
    pub(super) vnameserver6: in6_addr,
    pub(super) vdnssearch: *const *const c_char,
    pub(super) vdomainname: *const c_char,
    pub(super) if_mtu: usize,
    pub(super) if_mru: usize,
    pub(super) disable_host_loopback: bool,
    pub(super) enable_emu: bool,
    pub(super) outbound_addr: *const c_void,
    pub(super) outbound_addr6: *const c_void,
    pub(super) disable_dns: bool,
    pub(super) disable_dhcp: bool,
}

/// `version` of [`RawConfig`].
pub(super) const CONFIG_VERSION: u32 = 4;

type New = unsafe extern "C" fn(*const RawConfig, *const Callbacks, *mut c_void) -> *mut Stack;
type Cleanup = unsafe extern "C" fn(*mut Stack);
type Input = unsafe extern "C" fn(*mut Stack, *const u8, c_int);
type Fill = unsafe extern "C" fn(*mut Stack, *mut u32, AddPoll, *mut c_void);
type Poll = unsafe extern "C" fn(*mut Stack, c_int, GetEvents, *mut c_void);
type AddForward =
    unsafe extern "C" fn(*mut Stack, *const sockaddr, socklen_t, *const sockaddr, socklen_t, c_int) -> c_int;
type RemoveForward = unsafe extern "C" fn(*mut Stack, *const sockaddr, socklen_t, c_int) -> c_int;

/// Addresses of libslirp's functions, as the dynamic linker gives them.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// `slirp_new`
    pub new: usize,
    /// `slirp_cleanup`
    pub cleanup: usize,
    /// `slirp_input`
    pub input: usize,
    /// `slirp_pollfds_fill`
    pub pollfds_fill: usize,
    /// `slirp_pollfds_poll`
    pub pollfds_poll: usize,
    /// `slirp_add_hostxfwd`
    pub add_hostxfwd: usize,
    /// `slirp_remove_hostxfwd`
    pub remove_hostxfwd: usize,
}

/// The same, to be called.
#[derive(Clone, Copy)]
pub(super) struct Library {
    pub(super) new: New,
    pub(super) cleanup: Cleanup,
    pub(super) input: Input,
    pub(super) pollfds_fill: Fill,
    pub(super) pollfds_poll: Poll,
    pub(super) add_hostxfwd: AddForward,
    pub(super) remove_hostxfwd: RemoveForward,
}

impl Library {
    /// `None` when an address is null.
    ///
    /// # Safety
    /// Each address is that of the function of this name in a libslirp of at least 4.7 that stays loaded.
    pub(super) unsafe fn from_addresses(at: Addresses) -> Option<Self> {
        let all = [
            at.new,
            at.cleanup,
            at.input,
            at.pollfds_fill,
            at.pollfds_poll,
            at.add_hostxfwd,
            at.remove_hostxfwd,
        ];
        if all.contains(&0) {
            return None;
        }
        // SAFETY: not null, and functions of these types by the caller's promise.
        unsafe {
            Some(Self {
                new: std::mem::transmute::<usize, New>(at.new),
                cleanup: std::mem::transmute::<usize, Cleanup>(at.cleanup),
                input: std::mem::transmute::<usize, Input>(at.input),
                pollfds_fill: std::mem::transmute::<usize, Fill>(at.pollfds_fill),
                pollfds_poll: std::mem::transmute::<usize, Poll>(at.pollfds_poll),
                add_hostxfwd: std::mem::transmute::<usize, AddForward>(at.add_hostxfwd),
                remove_hostxfwd: std::mem::transmute::<usize, RemoveForward>(at.remove_hostxfwd),
            })
        }
    }
}
