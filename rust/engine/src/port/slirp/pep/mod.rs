//! What lets a guest have more than 64 KiB under way: a performance-enhancing proxy (RFC 3135) between the stack and
//! the guests, for TCP that goes to guests.
//!
//! The stack does not scale TCP's window, so that it waits for a guest's word every 64 KiB. Here each SYN of the stack
//! is given the option that it lacks (RFC 7323 2.2), what it sends is kept and acknowledged at once in the guest's
//! name, and goes to the guest as the guest's own, larger window allows ([`sender`]). All sequence numbers stay what
//! they are. What the guest sends to the stack is changed in what it acknowledges only. Since the segments are made
//! here, the stack makes long ones of whatever the guest takes, and guests get super-frames where they can.
//!
//! The end of a connection is never acknowledged in a guest's name: the stack keeps it until the guest has all.
//! A connection whose guest does not scale windows, or for which there is no room, is left alone, as is everything that
//! is no TCP. Nothing here looks at checksums, which the stack verifies: a frame that lies harms its own connection.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::connection::Connection;
use self::segment::{Key, Segment};
use crate::offload::tcp_flags::{ACK, RST, SYN};
use crate::pool::Batch;

mod connection;
pub(super) mod segment;
mod sender;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// Connections at most; twice the stack's, since some are over there already. A guest may have as many of them as are
/// left: one that begins all it can gets half.
const MOST_CONNECTIONS: usize = 8192;

/// Where there are too many, those that have come to nothing are forgotten, so often.
const SWEEP: Duration = Duration::from_secs(10);

/// Bytes that are kept for all of them, after which each has [`LEAST_KEPT`], which is what a window of the stack is.
const MOST_KEPT_IN_ALL: usize = 32 << 20;
const LEAST_KEPT: usize = 64 << 10;
/// Bytes that are kept for one of them: what may be under way, and the stack's next window.
const MOST_KEPT: usize = sender::MOST_UNDER_WAY as usize + LEAST_KEPT;

/// Bytes that are taken from the stack in one turn, more or less, so that a turn stays short.
const A_TURN: usize = 256 << 10;

/// Memory of connections that keep nothing, for those that will.
const SPARE: usize = 4;

/// What is to be done with a frame of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes to the guest as it is.
    Same,
    /// It goes as it has been written anew.
    Changed,
    /// It is kept here.
    Kept,
}

/// What the connections of one guest share.
#[derive(Default)]
struct Guest {
    connections: usize,
    /// How many of them have something under way to it.
    busy: u32,
}

/// See the module's head.
pub(super) struct Pep {
    /// The longest segment that guests are told to send, over IPv4 and IPv6.
    guest_sizes: [u16; 2],
    /// The longest that the stack is told that a guest takes.
    stack_sizes: [u16; 2],
    numbers: HashMap<Key, usize>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    /// Who has something for its guest, and who for the stack. Some of them may have nothing, or be gone.
    ready: VecDeque<usize>,
    to_tell: VecDeque<usize>,
    /// Each connection that waits for a time is here at [`Connection::timed`], which is that time or before it.
    times: BinaryHeap<Reverse<(Instant, usize)>>,
    guests: HashMap<IpAddr, Guest>,
    spare: Vec<VecDeque<u8>>,
    /// Bytes kept in all.
    kept: usize,
    taken_this_turn: usize,
    identification: u16,
    swept: Option<Instant>,
}

impl Pep {
    /// The guests' link takes packets of `mtu` bytes, the stack makes such of `stack_mtu`.
    pub(super) fn new(mtu: u16, stack_mtu: u16) -> Self {
        let sizes = |mtu: u16| [mtu.saturating_sub(40), mtu.saturating_sub(60)];
        Self {
            guest_sizes: sizes(mtu),
            stack_sizes: sizes(stack_mtu),
            numbers: HashMap::new(),
            connections: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            to_tell: VecDeque::new(),
            times: BinaryHeap::new(),
            guests: HashMap::new(),
            spare: Vec::new(),
            kept: 0,
            taken_this_turn: 0,
            identification: 0,
            swept: None,
        }
    }

    /// A frame that a guest sends to the stack, which may be changed. `false`: the stack need not have it.
    pub(super) fn hear_guest(&mut self, frame: &mut [u8], now: Instant) -> bool {
        let Some(segment) = Segment::of(frame) else { return true };
        let key = segment.key(frame);
        if segment.has(SYN) {
            self.guest_begins(key, &segment, frame, now);
            return true;
        }
        let Some((number, connection)) = find(&self.numbers, &mut self.connections, &key) else { return true };
        if segment.has(RST) {
            if connection.would_be_reset_by(&segment) {
                self.forget(number);
            }
            return true;
        }
        let before = connection.kept();
        let needed = connection.hear_guest(&segment, frame, now);
        self.changed(number, before);
        needed
    }

    fn guest_begins(&mut self, key: Key, segment: &Segment, frame: &mut [u8], now: Instant) {
        let offer = segment.offer(frame);
        let answers = segment.has(ACK);
        let known = self.numbers.get(&key).copied();
        let number = match (offer, known) {
            (Some(_), Some(number)) => number,
            (Some(_), None) if !answers => {
                let Some(number) = self.add(key, now) else { return };
                number
            }
            (_, Some(number)) => {
                // It does not scale: what it has begun before is over.
                self.forget(number);
                return;
            }
            _ => return,
        };
        let Some(mut offer) = offer else { return };
        let Some(connection) = self.connections[number].as_mut() else { return };
        let before = connection.kept();
        let family = usize::from(key.guest.0.is_ipv6());
        offer.segment_size = offer.segment_size.min(self.guest_sizes[family]);
        if connection.guest_begins(segment, offer) {
            segment.set_segment_size(frame, offer.size_at, self.stack_sizes[family]);
        }
        self.changed(number, before);
    }

    /// A frame that the stack sends to a guest; one that is [`Fate::Changed`] is in `out`.
    pub(super) fn hear_stack(&mut self, frame: &[u8], out: &mut Vec<u8>, now: Instant) -> Fate {
        let Some(segment) = Segment::of(frame) else { return Fate::Same };
        let key = segment.key(frame);
        let key = Key { guest: key.peer, peer: key.guest };
        if segment.has(SYN) {
            out.clear();
            out.extend_from_slice(frame);
            self.stack_begins(key, &segment, out, now);
            return Fate::Changed;
        }
        let Some((number, connection)) = find(&self.numbers, &mut self.connections, &key) else {
            return Fate::Same;
        };
        let (before, room) = (connection.kept(), room(connection, self.kept));
        if before == 0 && !segment.data.is_empty() {
            connection.exchange_memory(self.spare.pop().unwrap_or_default());
        }
        let fate = connection.hear_stack(&segment, frame, room, out, now);
        if segment.has(RST) {
            self.forget(number);
        } else {
            self.changed(number, before);
        }
        fate
    }

    fn stack_begins(&mut self, key: Key, segment: &Segment, out: &mut Vec<u8>, now: Instant) {
        if let Some((size, at)) = segment.segment_size(out) {
            let most = self.guest_sizes[usize::from(key.guest.0.is_ipv6())];
            segment.set_segment_size(out, at, size.min(most));
        }
        let answers = segment.has(ACK);
        let number = match self.numbers.get(&key).copied() {
            Some(number) => number,
            None if answers => return,
            None => {
                let Some(number) = self.add(key, now) else { return };
                number
            }
        };
        let Some(connection) = self.connections[number].as_mut() else { return };
        let before = connection.kept();
        if connection.stack_begins(segment, out) {
            segment.allow_scaling(out);
        }
        self.changed(number, before);
    }

    /// Into `out`, a frame for the stack in a guest's name; `false` when there is none to be said in this turn.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>) -> bool {
        while self.taken_this_turn < A_TURN {
            let Some(number) = self.to_tell.pop_front() else { return false };
            let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else { continue };
            connection.to_tell = false;
            let room = room(connection, self.kept);
            if connection.is_gone() {
                connection.reset(out);
                self.forget(number);
                return true;
            }
            if connection.tell(room, out) {
                self.changed(number, self.kept_by(number));
                return true;
            }
        }
        false
    }

    /// Whatever the guests may have now, as much of it as there is room for.
    pub(super) fn send(&mut self, batch: &mut Batch, now: Instant) {
        self.taken_this_turn = 0;
        while batch.room() > 0 {
            let Some(number) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else { continue };
            connection.ready = false;
            let share = share(&self.guests, connection);
            if let Some(segments) = connection.send(batch, share, self.identification, now) {
                self.identification = self.identification.wrapping_add(segments);
                self.changed(number, self.kept_by(number));
            }
        }
    }

    /// Those whose time has come.
    pub(super) fn look(&mut self, now: Instant) {
        while self.times.peek().is_some_and(|Reverse((time, _))| *time <= now) {
            let Some(Reverse((time, number))) = self.times.pop() else { return };
            let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else { continue };
            if connection.timed == Some(time) {
                connection.timed = None;
                connection.look(now);
                self.changed(number, self.kept_by(number));
            }
        }
    }

    /// When [`Pep::look`] is to be called.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.times.peek().map(|Reverse((time, _))| *time)
    }

    /// Whether there is something to be sent to a guest, or said to the stack.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.to_tell.is_empty()
    }

    fn kept_by(&self, number: usize) -> usize {
        self.connections.get(number).and_then(Option::as_ref).map_or(0, |connection| connection.kept())
    }

    /// Connection `number`, which has kept `before`, has had something done to it.
    fn changed(&mut self, number: usize, before: usize) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else { return };
        let after = connection.kept();
        self.kept = self.kept + after - before;
        self.taken_this_turn += after.saturating_sub(before);
        count_busy(&mut self.guests, connection, connection.is_busy());
        if connection.wants_to_send(share(&self.guests, connection)) && !connection.ready {
            connection.ready = true;
            self.ready.push_back(number);
        }
        if (connection.is_gone() || connection.wants_to_tell(room(connection, self.kept)))
            && !connection.to_tell
        {
            connection.to_tell = true;
            self.to_tell.push_back(number);
        }
        // A later time than the one it is there for is seen then.
        let sooner = |time: &Instant| connection.timed.is_none_or(|known| *time < known);
        if let Some(time) = connection.deadline().filter(sooner) {
            connection.timed = Some(time);
            self.times.push(Reverse((time, number)));
        }
        if before > 0 && after == 0 {
            let memory = connection.exchange_memory(VecDeque::new());
            self.spare.extend(Some(memory).filter(|_| self.spare.len() < SPARE));
        }
        if connection.is_over() && !connection.ready && !connection.to_tell {
            self.forget(number);
        }
    }

    fn add(&mut self, key: Key, now: Instant) -> Option<usize> {
        if !self.has_room_for(&key) {
            self.sweep(now);
            if !self.has_room_for(&key) {
                return None;
            }
        }
        self.guests.entry(key.guest.0).or_default().connections += 1;
        let number = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[number] = Some(Box::new(Connection::new(key, now)));
        self.numbers.insert(key, number);
        Some(number)
    }

    fn has_room_for(&self, key: &Key) -> bool {
        let own = self.guests.get(&key.guest.0).map_or(0, |guest| guest.connections);
        own < MOST_CONNECTIONS.saturating_sub(self.numbers.len())
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        for number in 0..self.connections.len() {
            if self.connections[number].as_ref().is_some_and(|connection| connection.has_failed(now)) {
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: usize) {
        let Some(mut connection) = self.connections.get_mut(number).and_then(Option::take) else { return };
        count_busy(&mut self.guests, &mut connection, false);
        if let Entry::Occupied(mut guest) = self.guests.entry(connection.key.guest.0) {
            guest.get_mut().connections -= 1;
            if guest.get().connections == 0 {
                guest.remove();
            }
        }
        self.kept -= connection.kept();
        self.numbers.remove(&connection.key);
        self.free.push(number);
    }
}

fn find<'a>(
    numbers: &HashMap<Key, usize>,
    connections: &'a mut [Option<Box<Connection>>],
    key: &Key,
) -> Option<(usize, &'a mut Connection)> {
    let number = *numbers.get(key)?;
    Some((number, connections.get_mut(number)?.as_mut()?))
}

/// Note whether this connection is one of those of its guest with something under way.
fn count_busy(guests: &mut HashMap<IpAddr, Guest>, connection: &mut Connection, is_busy: bool) {
    if connection.counted == is_busy {
        return;
    }
    connection.counted = is_busy;
    if let Some(guest) = guests.get_mut(&connection.key.guest.0) {
        guest.busy = if is_busy { guest.busy + 1 } else { guest.busy - 1 };
    }
}

/// What this connection may have under way: all of them together no more than the guest's queue has room for.
fn share(guests: &HashMap<IpAddr, Guest>, connection: &Connection) -> u32 {
    let busy = guests.get(&connection.key.guest.0).map_or(0, |guest| guest.busy);
    sender::MOST_UNDER_WAY / (busy - u32::from(connection.counted) + 1)
}

/// How much more may be kept for one.
fn room(connection: &Connection, kept_in_all: usize) -> usize {
    let most = if kept_in_all < MOST_KEPT_IN_ALL { MOST_KEPT } else { LEAST_KEPT };
    most.saturating_sub(connection.kept())
}
