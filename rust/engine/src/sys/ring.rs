//! Bytes from one thread to another without a lock: one writes, one reads, and neither ever waits for the other.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cache line of its own, so that the two threads do not take turns with one.
#[repr(align(128))]
struct Position(AtomicUsize);

/// Positions count all bytes ever written and read, modulo the address space; the bytes between them belong to the
/// reader, all others to the writer.
struct Ring {
    memory: Box<[UnsafeCell<u8>]>,
    written: Position,
    read: Position,
}

// SAFETY: no byte of `memory` belongs to both halves at the same time, see `Ring`; the positions that divide it are
// handed over with release and acquire.
unsafe impl Sync for Ring {}

impl Ring {
    /// Where the byte at `position` lies, and how many follow it until the end of the memory.
    fn place(&self, position: usize) -> (*mut u8, usize) {
        let at = position & (self.memory.len() - 1);
        (UnsafeCell::raw_get(self.memory[at..].as_ptr()), self.memory.len() - at)
    }
}

/// The half that writes.
pub(crate) struct Producer {
    ring: Arc<Ring>,
    /// Written, and not yet shown to the reader.
    written: usize,
    /// What the reader is known to have read; it may have read more.
    read: usize,
}

/// The half that reads.
pub(crate) struct Consumer {
    ring: Arc<Ring>,
    read: usize,
}

/// A ring of at least `capacity` bytes, all of them in memory already.
pub(crate) fn ring(capacity: usize) -> (Producer, Consumer) {
    let capacity = capacity.next_power_of_two();
    let memory = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
    let zero = || Position(AtomicUsize::new(0));
    let ring = Arc::new(Ring { memory, written: zero(), read: zero() });
    (Producer { ring: Arc::clone(&ring), written: 0, read: 0 }, Consumer { ring, read: 0 })
}

impl Producer {
    /// Write all `parts`, one behind the other, or nothing if there is no room: `false`. The reader sees them after the
    /// next [`Producer::publish`].
    #[must_use]
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > self.room() {
            self.read = self.ring.read.0.load(Ordering::Acquire);
            if len > self.room() {
                return false;
            }
        }
        for part in parts {
            let (target, until_end) = self.ring.place(self.written);
            let first = part.len().min(until_end);
            let (start, _) = self.ring.place(0);
            // SAFETY: the room for all parts was checked, so that these bytes of the ring are the writer's: `first` up
            // to its end, the rest from its start. `part` is no memory of the ring, which nobody else has a reference
            // to that could be passed in here.
            unsafe {
                ptr::copy_nonoverlapping(part.as_ptr(), target, first);
                ptr::copy_nonoverlapping(part.as_ptr().add(first), start, part.len() - first);
            }
            self.written = self.written.wrapping_add(part.len());
        }
        true
    }

    /// Let the reader see what was written.
    pub(crate) fn publish(&self) {
        self.ring.written.0.store(self.written, Ordering::Release);
    }

    fn room(&self) -> usize {
        self.ring.memory.len() - self.written.wrapping_sub(self.read)
    }
}

impl Consumer {
    /// What there is to read, up to the end of the memory; more may follow. Empty when there is nothing.
    pub(crate) fn readable(&mut self) -> &[u8] {
        let written = self.ring.written.0.load(Ordering::Acquire);
        let (start, until_end) = self.ring.place(self.read);
        let len = written.wrapping_sub(self.read).min(until_end);
        // SAFETY: the bytes between the two positions are the reader's and were written before `written` was
        // published; they stay so until `consume`, which needs `self` while the slice lives.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// Give the first `count` of the readable bytes back.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.readable().len());
        self.read = self.read.wrapping_add(count);
        self.ring.read.0.store(self.read, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn what_is_not_published_is_not_seen() {
        let (mut producer, mut consumer) = ring(64);
        assert!(producer.push(&[b"abc", b"", b"d"]));
        assert_eq!(consumer.readable(), b"");
        producer.publish();
        assert_eq!(consumer.readable(), b"abcd");
        consumer.consume(100);
        assert_eq!(consumer.readable(), b"");
    }

    #[test]
    fn all_or_nothing() {
        let (mut producer, mut consumer) = ring(8);
        assert!(!producer.push(&[&[1; 5], &[2; 4]]));
        assert!(producer.push(&[&[1; 5], &[2; 3]]));
        assert!(!producer.push(&[&[3]]));
        producer.publish();
        consumer.consume(1);
        assert!(producer.push(&[&[3]]));
    }

    proptest! {
        #[test]
        fn it_is_a_queue_of_bytes(steps in prop::collection::vec((any::<bool>(), 0_usize..40), 0..200)) {
            let (mut producer, mut consumer) = ring(32);
            let (mut model, mut next) = (VecDeque::new(), 0_u8);
            for (writes, count) in steps {
                if writes {
                    let bytes: Vec<u8> = (0..count).map(|at| next.wrapping_add(at as u8)).collect();
                    let (first, second) = bytes.split_at(count / 2);
                    let fits = model.len() + count <= 32;
                    prop_assert_eq!(producer.push(&[first, second]), fits);
                    producer.publish();
                    if fits {
                        model.extend(bytes);
                        next = next.wrapping_add(count as u8);
                    }
                } else {
                    let readable = consumer.readable().to_vec();
                    prop_assert!(!readable.is_empty() || model.is_empty());
                    let taken: Vec<u8> = model.drain(..count.min(readable.len())).collect();
                    prop_assert_eq!(&readable[..taken.len()], &taken[..]);
                    consumer.consume(taken.len());
                }
            }
        }
    }

    #[test]
    fn two_threads_lose_and_change_nothing() {
        let (mut producer, mut consumer) = ring(1 << 10);
        let count = 20_000_u32;
        let writer = std::thread::spawn(move || {
            for number in 0..count {
                let bytes = number.to_le_bytes();
                while !producer.push(&[&bytes[..1], &bytes[1..]]) {
                    std::thread::yield_now();
                }
                producer.publish();
            }
        });
        let mut all = Vec::new();
        while all.len() < count as usize * 4 {
            let bytes = consumer.readable();
            all.extend_from_slice(bytes);
            let taken = bytes.len();
            consumer.consume(taken);
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert!(
            all.chunks_exact(4).map(|bytes| u32::from_le_bytes(*bytes.first_chunk().unwrap())).eq(0..count)
        );
    }
}
