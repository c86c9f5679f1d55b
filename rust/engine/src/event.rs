//! What happened to endpoints, for whoever watches the descriptor: a bounded list and a wake-up byte.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::MacAddress;
use crate::stats::CaptureStats;

/// Number of an endpoint, for the caller; never used again.
pub type EndpointId = u64;

/// New addresses and troubles that wait to be taken at most; more are not reported. The other kinds come once for an
/// endpoint, so that they are bounded by what the caller has attached.
const WAITING_NEWS: usize = 4096;

/// Something the control plane wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An endpoint sent from an address that it had not used before.
    FirstMac {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its port.
        port: u16,
        /// The address.
        mac: MacAddress,
    },
    /// Somebody whom nobody knows sends to a door.
    Newcomer {
        /// The door.
        endpoint: EndpointId,
        /// What stands for its port.
        port: u16,
        /// The sender's: a path, or a zero and an abstract name.
        address: Box<[u8]>,
    },
    /// An endpoint went by itself; its descriptor is closed.
    EndpointDown {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its port.
        port: u16,
        /// What the kernel said.
        reason: String,
    },
    /// Something goes wrong at an endpoint, which goes on nevertheless. Comes rarely, however often it happens.
    Trouble {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its port.
        port: u16,
        /// What happens.
        reason: String,
    },
    /// A capture has ended, on request or by itself.
    CaptureEnded {
        /// Its numbers.
        stats: CaptureStats,
        /// Why.
        reason: String,
    },
    /// The loop has ended by itself.
    EngineFailed {
        /// Why.
        reason: String,
    },
}

impl Event {
    fn endpoint(&self) -> Option<EndpointId> {
        match self {
            Self::FirstMac { endpoint, .. }
            | Self::Newcomer { endpoint, .. }
            | Self::EndpointDown { endpoint, .. }
            | Self::Trouble { endpoint, .. } => Some(*endpoint),
            Self::CaptureEnded { .. } | Self::EngineFailed { .. } => None,
        }
    }
}

/// The list and its descriptor.
pub(crate) struct EventQueue {
    waiting: Mutex<VecDeque<Event>>,
    reader: UnixStream,
    writer: UnixStream,
}

impl EventQueue {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { waiting: Mutex::default(), reader, writer })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    pub(crate) fn push(&self, event: Event) {
        let mut waiting = self.lock();
        if matches!(event, Event::FirstMac { .. } | Event::Trouble { .. }) && waiting.len() >= WAITING_NEWS {
            return;
        }
        if waiting.is_empty() {
            // One byte is in the pair exactly while the list is not empty, so that this never blocks.
            let _ = (&self.writer).write(&[1]);
        }
        waiting.push_back(event);
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        let mut waiting = self.lock();
        self.clear_byte(&waiting);
        waiting.drain(..).collect()
    }

    /// Drop what was to be said about an endpoint that nobody knows any more.
    pub(crate) fn forget(&self, endpoint: EndpointId) {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return;
        }
        waiting.retain(|event| event.endpoint() != Some(endpoint));
        if waiting.is_empty() {
            let _ = (&self.reader).read(&mut [0]);
        }
    }

    fn clear_byte(&self, waiting: &MutexGuard<'_, VecDeque<Event>>) {
        if !waiting.is_empty() {
            let _ = (&self.reader).read(&mut [0]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(queue: &EventQueue) -> bool {
        let mut poller = crate::sys::Poller::new();
        poller.add(queue.descriptor(), 0, crate::sys::Interest::READ).unwrap();
        let mut reports = Vec::new();
        poller.wait(&mut reports, Some(std::time::Duration::ZERO)).unwrap();
        !reports.is_empty()
    }

    fn new_address(endpoint: EndpointId) -> Event {
        Event::FirstMac { endpoint, port: 1, mac: MacAddress([2, 0, 0, 0, 0, 1]) }
    }

    #[test]
    fn the_descriptor_is_readable_while_something_waits() {
        let queue = EventQueue::new().unwrap();
        assert!(!readable(&queue));
        queue.push(new_address(1));
        queue.push(new_address(2));
        assert!(readable(&queue));
        assert_eq!(queue.take(), [new_address(1), new_address(2)]);
        assert!(!readable(&queue));
        assert_eq!(queue.take(), []);
    }

    #[test]
    fn a_forgotten_endpoint_says_nothing() {
        let queue = EventQueue::new().unwrap();
        queue.push(new_address(1));
        queue.forget(2);
        assert!(readable(&queue));
        queue.forget(1);
        assert!(!readable(&queue));
        queue.push(new_address(3));
        assert!(readable(&queue));
    }

    #[test]
    fn addresses_are_bounded_and_losses_are_not() {
        let queue = EventQueue::new().unwrap();
        for _ in 0..2 * WAITING_NEWS {
            queue.push(new_address(1));
        }
        let down = Event::EndpointDown { endpoint: 2, port: 1, reason: String::new() };
        queue.push(down.clone());
        let taken = queue.take();
        assert_eq!(taken.len(), WAITING_NEWS + 1);
        assert_eq!(taken.last(), Some(&down));
    }
}
