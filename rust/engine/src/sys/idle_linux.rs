//! A thread that runs when nobody else wants the processor: SCHED_IDLE.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::Share;

/// Let the calling thread run only in what the others leave over. A refusal leaves it as it was.
pub(crate) fn run_when_idle() {
    // SAFETY: all-zero bytes are a valid sched_param, and the priority that SCHED_IDLE wants.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the call reads `parameters`, which outlives it; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}

/// How much of the processors the thread that opened it gets. Of `/proc/thread-self/schedstat` (Linux,
/// `Documentation/scheduler/sched-stats.rst`): nanoseconds that it ran, that it waited to run, and a count.
pub(crate) struct OwnShare(Option<File>);

impl OwnShare {
    /// For the calling thread, which alone may ask.
    pub(crate) fn open() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// `None` where the kernel does not say.
    pub(crate) fn get(&self) -> Option<Share> {
        let mut text = [0; 64];
        let len = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        let mut words = std::str::from_utf8(&text[..len]).ok()?.split_ascii_whitespace();
        let mut next = || words.next()?.parse().ok().map(Duration::from_nanos);
        Some(Share { ran: next()?, waited: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_has_run() {
        let share = OwnShare::open();
        let before = share.get().unwrap();
        while share.get().unwrap().ran == before.ran {
            std::hint::spin_loop();
        }
        assert!(share.get().unwrap().ran - before.ran < Duration::from_secs(60));
    }
}
