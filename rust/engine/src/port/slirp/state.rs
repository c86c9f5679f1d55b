//! What the user-mode stack's callbacks work on, and the callbacks.
//!
//! The stack calls back only from within a call of ours, on the loop's thread, and gets a raw pointer to the
//! state. So nobody holds a reference to the state while the stack runs: the port goes through the pointer too,
//! for one statement at a time. No callback panics: it would end the process.
#![allow(unsafe_code)]

use std::ptr;
use std::time::{Duration, Instant};

use libc::{c_char, c_int, c_void, ssize_t};

use super::library::{Callbacks, TimerCall};
use super::output::{self, Output};
use super::pep::{Fate, Pep};
use super::pieces;
use super::quota::Quota;
use super::sockets::Sockets;
use crate::pool::Batch;

/// The stack takes a time of zero for "never".
const FIRST_NANOSECOND: i64 = 1_000_000_000;

/// A timer of the stack: only router advertisements have one.
struct StackTimer {
    id: usize,
    call: TimerCall,
    argument: *mut c_void,
    /// Milliseconds of the stack's clock.
    expires: Option<i64>,
}

/// See the module's head.
pub(super) struct State {
    pub(super) sockets: Sockets,
    pub(super) quota: Quota,
    pub(super) output: Output,
    pub(super) pep: Pep,
    /// Where frames go while there is room, for the time of one call; else null.
    pub(super) batch: *mut Batch,
    /// Frames that found no room.
    pub(super) lost: u64,
    /// The longest packet of IPv4 that guests get, besides TCP's.
    longest_piece: u16,
    scratch: Vec<u8>,
    timers: Vec<StackTimer>,
    timers_made: usize,
    started: Instant,
}

impl State {
    pub(super) fn new(sockets: Sockets, quota: Quota, pep: Pep, longest_piece: u16) -> Self {
        Self {
            sockets,
            quota,
            output: Output::default(),
            pep,
            longest_piece,
            batch: ptr::null_mut(),
            lost: 0,
            scratch: Vec::new(),
            timers: Vec::new(),
            timers_made: 0,
            started: Instant::now(),
        }
    }

    /// Nanoseconds of the stack's clock.
    pub(super) fn nanoseconds(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX).saturating_add(FIRST_NANOSECOND)
    }

    /// A timer whose time has come, taken off.
    pub(super) fn due(&mut self) -> Option<(TimerCall, *mut c_void)> {
        let now = self.nanoseconds() / 1_000_000;
        let timer = self.timers.iter_mut().find(|timer| timer.expires.is_some_and(|time| time <= now))?;
        timer.expires = None;
        Some((timer.call, timer.argument))
    }

    /// In how long the next timer's time comes.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        let first = self.timers.iter().filter_map(|timer| timer.expires).min()?;
        let wait = first.saturating_mul(1_000_000).saturating_sub(self.nanoseconds());
        Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(0)))
    }

    fn take(&mut self, frame: &[u8]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        match self.pep.hear_stack(frame, &mut scratch, Instant::now()) {
            Fate::Kept => {}
            Fate::Changed => self.take_piece(&scratch),
            Fate::Same => pieces::each(frame, self.longest_piece, &mut scratch, |piece| self.take_piece(piece)),
        }
        self.scratch = scratch;
    }

    fn take_piece(&mut self, frame: &[u8]) {
        if self.output.is_empty() {
            // SAFETY: not null only while the port holds the batch for us alone.
            if let Some(batch) = unsafe { self.batch.as_mut() }.filter(|batch| batch.room() > 0) {
                output::put(batch, frame);
                return;
            }
        }
        if !self.output.push(frame) {
            self.lost += 1;
        }
    }

    fn timer(&mut self, timer: *mut c_void) -> Option<&mut StackTimer> {
        self.timers.iter_mut().find(|one| one.id == timer.addr())
    }
}

/// The state behind the pointer that the stack was given.
///
/// # Safety
/// `opaque` is the pointer that the stack was made with, and the caller a callback.
unsafe fn state<'a>(opaque: *mut c_void) -> &'a mut State {
    // SAFETY: the port keeps the state alive as long as the stack, and holds no reference while the stack runs.
    unsafe { &mut *opaque.cast::<State>() }
}

/// What the stack is given at its making; it keeps the pointer.
pub(super) static CALLBACKS: Callbacks = Callbacks {
    send_packet,
    guest_error,
    clock_get_ns,
    timer_new,
    timer_free,
    timer_mod,
    register_poll_fd,
    unregister_poll_fd,
    notify,
    init_completed: None,
    timer_new_opaque: None,
};

unsafe extern "C" fn send_packet(frame: *const c_void, len: usize, opaque: *mut c_void) -> ssize_t {
    // SAFETY: the stack describes `len` bytes of its own that live until this returns; see `state`.
    unsafe { state(opaque).take(std::slice::from_raw_parts(frame.cast(), len)) };
    // Also when it was lost: TCP notices.
    ssize_t::try_from(len).unwrap_or(ssize_t::MAX)
}

/// Words about a guest's misbehaviour; a guest can make any number of them.
unsafe extern "C" fn guest_error(_words: *const c_char, _opaque: *mut c_void) {}

unsafe extern "C" fn clock_get_ns(opaque: *mut c_void) -> i64 {
    // SAFETY: see `state`.
    unsafe { state(opaque) }.nanoseconds()
}

/// Timers are numbers here, never dereferenced.
unsafe extern "C" fn timer_new(call: TimerCall, argument: *mut c_void, opaque: *mut c_void) -> *mut c_void {
    // SAFETY: see `state`.
    let state = unsafe { state(opaque) };
    state.timers_made += 1;
    let id = state.timers_made;
    state.timers.push(StackTimer { id, call, argument, expires: None });
    ptr::without_provenance_mut(id)
}

unsafe extern "C" fn timer_free(timer: *mut c_void, opaque: *mut c_void) {
    // SAFETY: see `state`.
    unsafe { state(opaque) }.timers.retain(|one| one.id != timer.addr());
}

unsafe extern "C" fn timer_mod(timer: *mut c_void, expires: i64, opaque: *mut c_void) {
    // SAFETY: see `state`.
    if let Some(timer) = unsafe { state(opaque) }.timer(timer) {
        timer.expires = Some(expires);
    }
}

unsafe extern "C" fn register_poll_fd(fd: c_int, opaque: *mut c_void) {
    // SAFETY: see `state`.
    let state = unsafe { state(opaque) };
    state.sockets.forget(fd);
    state.quota.opened(fd);
}

unsafe extern "C" fn unregister_poll_fd(fd: c_int, opaque: *mut c_void) {
    // SAFETY: see `state`.
    let state = unsafe { state(opaque) };
    state.sockets.forget(fd);
    state.quota.closed(fd);
}

/// The stack would take more from a socket: it is asked after every call anyway.
unsafe extern "C" fn notify(_opaque: *mut c_void) {}

/// `SlirpAddPollCb`: the index that the stack asks about later is the descriptor.
pub(super) unsafe extern "C" fn add_poll(fd: c_int, events: c_int, opaque: *mut c_void) -> c_int {
    // SAFETY: see `state`.
    unsafe { state(opaque) }.sockets.name(fd, events);
    fd
}

/// `SlirpGetREventsCb`.
pub(super) unsafe extern "C" fn get_events(index: c_int, opaque: *mut c_void) -> c_int {
    // SAFETY: see `state`.
    unsafe { state(opaque) }.sockets.ready(index)
}
