//! A thread that runs when nobody else wants the processor: the background class.
#![allow(unsafe_code)]

use super::Share;

/// Let the calling thread run only in what the others leave over. A refusal leaves it as it was.
pub(crate) fn run_when_idle() {
    // SAFETY: the call touches no memory of ours and is about the calling thread.
    unsafe { libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_BACKGROUND, 0) };
}

/// How much of the processors the calling thread gets, which the system does not say: its background class holds it back.
pub(crate) struct OwnShare;

impl OwnShare {
    /// As on Linux.
    pub(crate) fn open() -> Self {
        Self
    }

    /// Never known.
    pub(crate) fn get(&self) -> Option<Share> {
        None
    }
}
