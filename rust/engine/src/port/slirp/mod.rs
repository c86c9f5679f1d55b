//! The user-mode uplink: libslirp, a TCP/IP stack as a library, which opens ordinary sockets for what guests do.
//!
//! No thread and no waiting of its own: the port's descriptor is a poller that holds the stack's sockets and a timer
//! for its timeouts; frames that the stack makes while it is given some wait in the port. Frames from guests pass the
//! [`guard`] first, and a [`quota`] on sockets. One turn serves a few sockets and gives out one batch; the stack is
//! asked for more when that is gone, so that TCP's own windows hold a fast host back. Super-frames of IPv4 go to the
//! stack whole, where each becomes one call of the kernel; the stack takes no longer packet of IPv6 than its MTU. What
//! it makes besides TCP goes out in [`pieces`].
//!
//! Facts this file rests on: the stack keeps what it is told in process-wide variables too (its clock, the host's
//! name server), so that there is one port of this kind in a process at a time; it never waits in a socket.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::ptr;
use std::time::{Duration, Instant};

use libc::{c_int, c_void};

use self::guard::{Guard, Opens, Verdict};
use self::library::{FORWARD_UDP, Library, RawConfig, Stack};
use self::pep::Pep;
use self::quota::Quota;
use self::sockets::Sockets;
use self::state::{CALLBACKS, State};
use super::{Down, Port};
use crate::frame::MacAddress;
use crate::offload::checksum::{ChecksumOutsideFrame, finish_checksum};
use crate::pool::{Batch, FrameRef, Received};
use crate::stats::{Counters, DropReason};
use crate::sys::Timer;
use crate::vnet_header::Offloads;

mod address;
mod guard;
mod library;
mod output;
mod pep;
mod pieces;
mod quota;
mod sockets;
mod state;

pub use self::library::Addresses;

/// Sockets at most, if the process may have that many. Chosen: the stack walks through all of them each turn, 0.1
/// ms for so many, and a guest alone may have half of them, which is more than a desktop's browser opens.
const MOST_SOCKETS: u64 = 4096;

/// What the stack names when it waits for nothing, in milliseconds; anything shorter has a reason.
const IDLE: u32 = 1000;

/// The stack makes packets of TCP so long, at least. Chosen: it shuts its own window when there is no room for one more
/// of them, so that they are no longer than a few of Ethernet's.
const LONG: u16 = 8_000;

/// The stack's clock stands still while it is not run, and what it times out is counted from there. Chosen: much
/// less than the shortest of its times that matters, 10 s.
const STALE: Duration = Duration::from_millis(200);

/// One `--allow` or `--deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The network; bits beyond `prefix` are zero.
    pub network: IpAddr,
    /// How many bits of it count.
    pub prefix: u8,
    /// Whether guests may reach it.
    pub allow: bool,
}

impl Rule {
    fn holds(&self, address: IpAddr) -> bool {
        fn prefix(bits: u128, width: u32, len: u8) -> u128 {
            bits.checked_shr(width.saturating_sub(u32::from(len))).unwrap_or(0)
        }
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                prefix(network.to_bits().into(), 32, self.prefix)
                    == prefix(address.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                prefix(network.to_bits(), 128, self.prefix) == prefix(address.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

/// The IPv6 side of the segment; the prefix is a /64.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Config {
    /// Its first address.
    pub prefix: Ipv6Addr,
    /// The stack's own address, which stands for the host.
    pub host: Ipv6Addr,
    /// Where the stack answers DNS, by asking the host's server.
    pub nameserver: Ipv6Addr,
}

/// What the segment is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Guests reach nothing but each other.
    pub restricted: bool,
    /// The segment's network.
    pub network: Ipv4Addr,
    /// Its mask.
    pub mask: Ipv4Addr,
    /// The stack's own address, which stands for the host.
    pub host: Ipv4Addr,
    /// Where the stack answers DNS, by asking the host's server.
    pub nameserver: Ipv4Addr,
    /// First address that the stack hands out.
    pub dhcp_start: Ipv4Addr,
    /// Whether it hands any out.
    pub dhcp: bool,
    /// Without it there is no IPv6.
    pub ipv6: Option<Ipv6Config>,
    /// Domain that DHCP tells.
    pub domain: CString,
    /// Longest packet, in bytes; the stack takes 68…65521.
    pub mtu: u16,
    /// The most specific one decides where guests may connect to; without any, it is allowed.
    pub rules: Vec<Rule>,
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum SlirpError {
    /// The control plane handed nothing over.
    #[error("The address of a function is null")]
    NullAddress,
    /// The library does not take the configuration.
    #[error("libslirp refuses the configuration")]
    Refused,
    /// No descriptors left.
    #[error("The kernel gives no poller")]
    Kernel(#[from] io::Error),
}

/// A way in from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// UDP, else TCP.
    pub udp: bool,
    /// Where the host listens.
    pub host: SocketAddr,
    /// Where it leads to, of the same family.
    pub guest: SocketAddr,
}

/// The port. See the module's head.
pub struct Slirp {
    library: Library,
    stack: *mut Stack,
    /// Ours, made by `Box::into_raw`; the stack has the same pointer.
    state: *mut State,
    guard: Guard,
    timer: Timer,
    /// When `timer` goes off.
    alarm: Option<Instant>,
    /// What waits for a station's address can be sent now, which happens when the stack is run.
    settled: bool,
    /// The frame that the stack is to see, which may be changed before, and what is said in a guest's name.
    scratch: Vec<u8>,
    word: Vec<u8>,
    told_lost: u64,
    last_run: Instant,
}

// SAFETY: the stack and its state are used by one thread at a time, whichever owns the port, and nothing in them
// belongs to a thread.
unsafe impl Send for Slirp {}

impl Slirp {
    /// Make a stack. The addresses are believed: nobody but the control plane gives any, which has them from the
    /// dynamic linker, of a libslirp of at least 4.7 that stays loaded, and makes one stack at a time.
    ///
    /// # Errors
    /// [`SlirpError`].
    pub fn new(addresses: Addresses, config: &Config) -> Result<Self, SlirpError> {
        // SAFETY: as said above.
        let library = unsafe { Library::from_addresses(addresses) }.ok_or(SlirpError::NullAddress)?;
        let guard = Guard::new(config);
        let sockets = Sockets::new()?;
        let timer = Timer::new()?;
        sockets.add_own(timer.descriptor())?;
        let (quota, pep) = (Quota::new(most_sockets()), Pep::new(config.mtu, stack_mtu(config)));
        let longest_piece = config.mtu.min(pieces::SURE);
        let state = Box::into_raw(Box::new(State::new(sockets, quota, pep, longest_piece)));
        let raw = raw_config(config, &guard);
        // SAFETY: `raw` and what it points to outlive the call, which copies it; `state` and the callbacks live
        // longer than the stack.
        let stack = unsafe { (library.new)(&raw const raw, &raw const CALLBACKS, state.cast()) };
        if stack.is_null() {
            // SAFETY: made above, and nobody has it.
            drop(unsafe { Box::from_raw(state) });
            return Err(SlirpError::Refused);
        }
        let mut port = Self {
            library,
            stack,
            state,
            guard,
            timer,
            alarm: None,
            settled: false,
            scratch: Vec::new(),
            word: Vec::new(),
            told_lost: 0,
            last_run: Instant::now(),
        };
        port.prepare_to_sleep();
        Ok(port)
    }

    /// The state, for one statement that does not call the stack.
    fn state(&mut self) -> &mut State {
        // SAFETY: it lives as long as we do, and the stack, which has the pointer too, is not running.
        unsafe { &mut *self.state }
    }

    fn opaque(&self) -> *mut c_void {
        self.state.cast()
    }

    /// Let the stack name its sockets and timeouts, and have ourselves woken for them.
    fn prepare_to_sleep(&mut self) {
        let mut timeout = u32::MAX;
        self.state().sockets.begin();
        // SAFETY: the stack is ours and not running; `timeout` outlives the call.
        unsafe { (self.library.pollfds_fill)(self.stack, &raw mut timeout, state::add_poll, self.opaque()) };
        self.state().sockets.end();
        let stack = Some(timeout).filter(|timeout| *timeout < IDLE).map(u64::from).map(Duration::from_millis);
        let pep = self.state().pep.next_time().map(|time| time.saturating_duration_since(Instant::now()));
        let wait = [stack, self.state().next_timer(), pep].into_iter().flatten().min();
        self.set_alarm(wait);
    }

    /// Wake up in `wait`. One that is set for earlier may go off in vain, which is cheaper than setting it anew.
    fn set_alarm(&mut self, wait: Option<Duration>) {
        let Some(wait) = wait else { return };
        let time = Instant::now() + wait;
        if self.alarm.is_none_or(|alarm| time < alarm) && self.timer.set(Some(wait)).is_ok() {
            self.alarm = Some(time);
        }
    }

    /// Everything of the stack whose time has come; what it sends goes to `batch`, and what has no room there to
    /// the list.
    fn run(&mut self, batch: &mut Batch) -> Result<(), Down> {
        self.settled = false;
        if self.alarm.is_some_and(|alarm| alarm <= Instant::now()) {
            self.alarm = None;
            self.timer.set(None).map_err(|error| Down(error.to_string()))?;
        }
        self.state().sockets.collect().map_err(|error| Down(error.to_string()))?;
        self.state().batch = batch;
        while let Some((call, argument)) = self.state().due() {
            // SAFETY: the stack gave both, and is not running.
            unsafe { call(argument) };
        }
        self.poll_stack();
        self.state().batch = ptr::null_mut();
        self.state().sockets.told();
        Ok(())
    }

    /// Tell the stack what is ready, and with it what time it is.
    fn poll_stack(&mut self) {
        self.last_run = Instant::now();
        // SAFETY: the stack is ours and not running. A batch that the state has is used by nobody else until this
        // returns.
        unsafe { (self.library.pollfds_poll)(self.stack, 0, state::get_events, self.opaque()) };
    }

    fn input(&mut self, frame: &[u8]) {
        let Ok(len) = c_int::try_from(frame.len()) else { return };
        // SAFETY: the stack is ours and not running, and only reads `len` bytes of `frame`.
        unsafe { (self.library.input)(self.stack, frame.as_ptr(), len) };
    }

    /// Tell the stack in guests' names what is kept for them; it may have more then.
    fn acknowledge(&mut self) {
        let mut word = std::mem::take(&mut self.word);
        while self.state().pep.tell(&mut word) {
            self.input(&word);
        }
        self.word = word;
    }

    /// One frame of a guest; why not, when the stack does not get it.
    fn admit(&mut self, frame: FrameRef<'_>, now: Instant) -> Result<(), DropReason> {
        let mut whole = std::mem::take(&mut self.scratch);
        whole.clear();
        whole.extend_from_slice(frame.ethernet());
        // The stack verifies checksums. That of a super-frame is one over all of it.
        let result = match finish_checksum(frame.header(), &mut whole) {
            Ok(_) => self.admit_finished(&mut whole, now),
            Err(ChecksumOutsideFrame) => Err(DropReason::BadChecksumOffset),
        };
        self.scratch = whole;
        result
    }

    fn admit_finished(&mut self, frame: &mut [u8], now: Instant) -> Result<(), DropReason> {
        let station = frame.get(6..).and_then(<[u8]>::first_chunk).copied().map(MacAddress);
        let station = station.ok_or(DropReason::Denied)?;
        let opens = match self.guard.verdict(frame) {
            Verdict::Deny => return Err(DropReason::Denied),
            Verdict::Forged => return Err(DropReason::ForgedSource),
            Verdict::PassCalm { tcp } => {
                guard::calm(frame, tcp);
                // It may open a connection as well as carry data of one.
                Opens::Always
            }
            Verdict::Pass { opens, settles } => {
                self.settled |= settles;
                opens
            }
        };
        if !self.state().quota.allows(station, opens) {
            return Err(DropReason::NoSocket);
        }
        if self.state().pep.hear_guest(frame, now) {
            self.state().quota.begin(station, opens);
            self.input(frame);
            self.state().quota.end();
        }
        Ok(())
    }
}

impl Port for Slirp {
    fn descriptor(&self) -> RawFd {
        // SAFETY: as in `state`.
        unsafe { &*self.state }.sockets.descriptor()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        let now = Instant::now();
        self.state().output.move_to(batch);
        self.state().pep.look(now);
        self.state().pep.send(batch, now);
        // What answers a guest goes out before more is fetched for it: the stack has 64 KiB under way, so that the
        // guest waits for this. Whatever is ready besides is reported again.
        if batch.is_empty() || (self.settled && batch.room() > 0) {
            self.run(batch)?;
            self.acknowledge();
            self.state().pep.send(batch, now);
            self.prepare_to_sleep();
        }
        if batch.is_empty() {
            // A connection made, a timeout: it was for something, though it gave no frame.
            batch.push(Received::Nothing, None);
        }
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        if self.last_run.elapsed() > STALE {
            self.poll_stack();
        }
        let now = Instant::now();
        for frame in frames {
            match self.admit(*frame, now) {
                Ok(()) => counters.sent(frame.ethernet().len()),
                Err(reason) => counters.dropped(reason),
            }
        }
        let lost = self.state().lost;
        for _ in self.told_lost..lost {
            counters.dropped(DropReason::QueueFull);
        }
        self.told_lost = lost;
        self.acknowledge();
        self.prepare_to_sleep();
        Ok(frames.len())
    }

    fn holds_frames(&self) -> bool {
        // SAFETY: as in `state`.
        let state = unsafe { &*self.state };
        self.settled || !state.output.is_empty() || state.pep.has_work()
    }

    fn reads_many_at_once(&self) -> bool {
        true
    }

    fn offloads(&self) -> Offloads {
        Offloads { checksum: true, tso4: true, ..Offloads::NONE }
    }

    fn forward(&mut self, forward: &Forward, on: bool) -> io::Result<()> {
        if forward.host.is_ipv4() != forward.guest.is_ipv4() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let flags = if forward.udp { FORWARD_UDP } else { 0 };
        let (host, guest) = (address::Raw::from(forward.host), address::Raw::from(forward.guest));
        let (library, stack) = (self.library, self.stack);
        let result = if on {
            // SAFETY: the stack is ours and not running; it copies both addresses.
            unsafe {
                (library.add_hostxfwd)(stack, host.pointer(), host.len(), guest.pointer(), guest.len(), flags)
            }
        } else {
            // SAFETY: as above.
            unsafe { (library.remove_hostxfwd)(stack, host.pointer(), host.len(), flags) }
        };
        let error = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        self.prepare_to_sleep();
        error
    }
}

impl Drop for Slirp {
    fn drop(&mut self) {
        // SAFETY: both were made by `new`, and this is the end of them. The stack closes its sockets, for which it
        // calls back, so that the state goes last.
        unsafe {
            (self.library.cleanup)(self.stack);
            drop(Box::from_raw(self.state));
        }
    }
}

/// At most half of the descriptors that the process may have.
fn most_sockets() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call, which fills it.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let half = if known { limit.rlim_cur / 2 } else { MOST_SOCKETS };
    usize::try_from(half.min(MOST_SOCKETS)).unwrap_or(0)
}

/// What the stack takes for the longest packet: segments are cut for guests by [`pep`], all else by [`pieces`].
fn stack_mtu(config: &Config) -> u16 {
    config.mtu.max(LONG)
}

fn raw_config(config: &Config, guard: &Guard) -> RawConfig {
    let v4 = |address: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
    let v6 = |address: Ipv6Addr| libc::in6_addr { s6_addr: address.octets() };
    let six = config.ipv6.unwrap_or(Ipv6Config {
        prefix: Ipv6Addr::UNSPECIFIED,
        host: Ipv6Addr::UNSPECIFIED,
        nameserver: Ipv6Addr::UNSPECIFIED,
    });
    RawConfig {
        version: library::CONFIG_VERSION,
        restricted: c_int::from(config.restricted),
        in_enabled: true,
        vnetwork: v4(config.network),
        vnetmask: v4(config.mask),
        vhost: v4(config.host),
        in6_enabled: config.ipv6.is_some(),
        vprefix_addr6: v6(six.prefix),
        vprefix_len: 64,
        vhost6: v6(six.host),
        vhostname: ptr::null(),
        tftp_server_name: ptr::null(),
        tftp_path: ptr::null(),
        bootfile: ptr::null(),
        vdhcp_start: v4(config.dhcp_start),
        vnameserver: v4(config.nameserver),
        vnameserver6: v6(six.nameserver),
        vdnssearch: ptr::null(),
        vdomainname: if config.domain.is_empty() { ptr::null() } else { config.domain.as_ptr() },
        if_mtu: usize::from(stack_mtu(config)),
        if_mru: usize::from(stack_mtu(config)),
        disable_host_loopback: !guard.reaches_loopback(),
        enable_emu: false,
        outbound_addr: ptr::null(),
        outbound_addr6: ptr::null(),
        disable_dns: false,
        disable_dhcp: !config.dhcp,
    }
}
