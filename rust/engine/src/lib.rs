//! The data plane of `vde_vmnet`: takes open descriptors and moves Ethernet frames between them in batches.
//!
//! Parses no configuration, runs no command, logs nothing, knows no Python. Keeps nothing process-wide, but for the
//! handler of SIGBUS that guests' shared memory needs (`port/vhost_user/faults.rs`).
//!
//! | module | owns |
//! |---|---|
//! | [`frame`], [`vnet_header`], [`offload`] | bytes of a frame (pure) |
//! | [`framing`] | QEMU's stream framing, bytes to frames and back (pure) |
//! | [`mac_table`], [`switch`] | where a frame goes, or why not (pure) |
//! | [`sources`] | who is who on one socket with many senders (pure) |
//! | [`stats`] | counters, one for each reason to drop (pure) |
//! | [`pool`] | the arena for a batch, the bounded queue of a peer |
//! | `sys` | the poller and what wakes it |
//! | [`port`] | what frames come from and go to: one file a kind, behind one contract |
//! | `egress` | what a destination gets of a batch: as it is, cut, or joined |
//! | `endpoint`, `endpoints` | one port in the loop: its counters, its queue, whether it is being waited for |
//! | `alarms` | when to come back to a port that nobody tells when it can go on (pure) |
//! | `budget` | how much an endpoint may read in its turn (pure) |
//! | `gather` | when a sender is left alone for a moment, to be read in larger batches (pure) |
//! | [`bpf`] | which frames a capture wants (pure) |
//! | [`pcapng`] | what a capture's file consists of (pure) |
//! | [`capture`] | copies of frames into a ring, and from there to whoever reads |
//! | [`event`] | what the control plane is told |
//! | `runtime` | the one loop: poll, read a batch, switch, write a batch |
//! | [`engine`] | the handle: starts the loop's thread and talks to it |
//!
//! Invariants: one thread moves all frames and takes no lock to do so; every queue is bounded; a frame that is
//! dropped raises exactly one counter; no panic leaves the thread.

mod alarms;
pub mod bpf;
mod budget;
pub mod capture;
mod egress;
mod endpoint;
mod endpoints;
pub mod engine;
pub mod error;
pub mod event;
pub mod frame;
pub mod framing;
mod gather;
pub mod mac_table;
pub mod offload;
pub mod pcapng;
pub mod pool;
pub mod port;
mod runtime;
pub mod sources;
pub mod stats;
pub mod switch;
mod sys;
pub mod vnet_header;

pub use endpoint::EndpointStats;
pub use engine::{Engine, EngineConfig, Pending};
pub use error::EngineError;
pub use event::{EndpointId, Event};

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
