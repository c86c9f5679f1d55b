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
