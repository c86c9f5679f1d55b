//! A thread that runs when nobody else wants the processor: SCHED_IDLE.
#![allow(unsafe_code)]

/// Let the calling thread run only in what the others leave over. A refusal leaves it as it was.
pub(crate) fn run_when_idle() {
    // SAFETY: all-zero bytes are a valid sched_param, and the priority that SCHED_IDLE wants.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the call reads `parameters`, which outlives it; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}
