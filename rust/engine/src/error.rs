//! Why the engine refuses a request.

use std::io;

/// What [`crate::Engine`] answers when it cannot do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel gave no poller, thread or socket pair.
    #[error("Cannot start the engine")]
    Start(#[source] io::Error),
    /// The thread has ended: closed, or failed for the reason given.
    #[error("The engine has ended: {0}")]
    Ended(String),
    /// There are as many captures as there may be.
    #[error("There are {} captures already, of which none has ended", crate::capture::MOST_CAPTURES)]
    TooManyCaptures,
    /// The kernel gave no descriptor or thread for a capture, or does not take its target.
    #[error("Cannot start the capture")]
    Capture(#[source] io::Error),
    /// The poller does not take the descriptor.
    #[error("Cannot watch the descriptor of {name}")]
    Register {
        /// The endpoint's name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
