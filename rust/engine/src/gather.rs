//! When a sender is left alone for a moment, so that the next read finds many of its frames: what network cards call
//! interrupt moderation. Pure; the time is an argument.
//!
//! A guest's QEMU sends each frame with a system call of its own. A loop that reads each at once wakes up for each,
//! takes the processor from whoever sends, finds nothing to join, and answers every second frame with an
//! acknowledgement, which is an interrupt to the guest. So, where a sender sends much more than it gets, and its
//! frames come in handfuls, it is not read for some 50 to 200 µs after each turn.
//!
//! Nobody is to lose by it:
//! - whoever asks and waits for the answer is not delayed: as much goes to it as comes from it, or what comes is
//!   little. Where that is taken for a bulk transfer all the same, its rests bring next to nothing, of which it takes
//!   three in a row to end them, for twice as long each time;
//! - the sender must not have to wait for room: a rest after which its socket was nearly full is made shorter;
//! - no timer runs for a sender that is silent: a rest follows a turn that brought something, and the first one that
//!   brings nothing is the last;
//! - nor is one delayed that sends a lot, waits for a word, and sends again: it comes to less with rests than without,
//!   which ends them too.
//!
//! A guest that shares its memory is not read by system calls, but each super-frame that it sends while its ring is not
//! looked at is a kick, an exit of its virtual machine. In a rest it need not kick.

use std::time::{Duration, Instant};

/// How long is looked at what a sender does before it is judged.
const WINDOW: Duration = Duration::from_millis(2);

/// The least that a bulk transfer brings, in bytes for each microsecond: 256 Mbit/s, some four full frames in the
/// longest rest.
const LEAST_RATE: u64 = 32;

/// A bulk transfer brings so many times what goes the other way, in bytes. An acknowledgement for each second full
/// frame is a fortieth.
const ONE_WAY: u64 = 8;

/// A sender that brings so many frames a turn by itself needs no rest.
const HANDFUL: u64 = 16;

/// Nor does one that brings a frame in less time than this: its frames fill a batch, and its socket.
const LEAST_GAP: Duration = Duration::from_micros(4);

/// A rest that brings fewer frames was none worth having: a question of two frames is not bulk.
const WORTH: usize = 3;

/// Unless they are so many bytes together where there is [`MUCH_ROOM`]: half a super-frame, of which a guest makes one
/// in the longest rest.
const WORTH_BYTES: usize = 32 << 10;

/// So many of them in a row are the last. A guest's processor is taken away now and then.
const MISSES: u32 = 3;

/// The shortest rest worth its timer.
const SHORTEST: Duration = Duration::from_micros(50);

/// Where a transfer begins. Chosen: brings enough frames to be told from a question, and no socket is full by then.
const FIRST: Duration = Duration::from_micros(100);

/// Chosen: some twenty full frames at 1 Gbit/s, joined into one super-frame; longer ones bring nothing more, and fill
/// a socket with Linux's default buffers.
const LONGEST: Duration = Duration::from_micros(200);

/// The same where there is room for much more, as in a ring of 256 entries. Measured: TCP from a guest gains as much
/// with 200 as with 300 µs, the latter for a quarter less of our own time; 400 are too long.
const LONGEST_WITH_ROOM: Duration = Duration::from_micros(300);
const MUCH_ROOM: usize = 512 << 10;

/// Windows in a row with rests in which so many eighths of what came before them is not reached are the last.
const SLOW_WINDOWS: u32 = 2;
const EIGHTHS: u64 = 7;

/// No rest for so long after one that was not worth it, and twice as long each time.
const FIRST_PENALTY: Duration = Duration::from_millis(4);
const LONGEST_PENALTY: Duration = Duration::from_millis(256);

/// What a frame takes of its sender's room besides its bytes. Measured: a stream socket of Linux with 212,992 bytes
/// holds 46 frames of 1,518 bytes.
const ROOM_A_FRAME: usize = 3 << 10;

/// What one turn brought, and what its endpoint has brought and got in all, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    /// It was as much as a turn may be: more is waiting.
    pub(crate) full: bool,
}

/// What is being looked at.
#[derive(Clone, Copy)]
struct Window {
    since: Instant,
    rx_bytes: u64,
    tx_bytes: u64,
    frames: u64,
    turns: u64,
}

/// One sender's state. See the module's head.
pub(crate) struct Gather {
    window: Option<Window>,
    bulk: bool,
    rest: Duration,
    /// The next turn comes after a rest.
    rested: bool,
    /// Rests in a row that were not worth it.
    misses: u32,
    not_before: Option<Instant>,
    penalty: Duration,
    /// Bytes for each millisecond when the sender was not left alone yet.
    pace: u64,
    /// Windows in a row that fell behind it.
    slow: u32,
}

impl Default for Gather {
    fn default() -> Self {
        let (rest, penalty) = (FIRST, FIRST_PENALTY);
        Self {
            window: None,
            bulk: false,
            rest,
            rested: false,
            misses: 0,
            not_before: None,
            penalty,
            pace: 0,
            slow: 0,
        }
    }
}

impl Gather {
    /// For how long the sender is to be left alone after `turn`, if at all. `room`: bytes that its socket holds.
    pub(crate) fn after(&mut self, turn: Turn, room: usize, now: Instant) -> Option<Duration> {
        let filled = turn.bytes + turn.frames * ROOM_A_FRAME;
        if std::mem::take(&mut self.rested) && !self.was_worth(turn, filled, room) {
            self.misses += 1;
            if self.misses >= MISSES || self.rest < SHORTEST {
                self.give_up(now);
            }
            return None;
        }
        self.look(turn, now);
        // After so much, more is waiting.
        if !self.bulk || turn.full || filled > nearly(room) {
            return None;
        }
        self.rested = true;
        Some(self.rest)
    }

    /// After a rest: whether there should be another at once, and how long.
    fn was_worth(&mut self, turn: Turn, filled: usize, room: usize) -> bool {
        if filled > nearly(room) {
            self.rest /= 2;
        } else if filled < room / 2 {
            let longest = if room < MUCH_ROOM { LONGEST } else { LONGEST_WITH_ROOM };
            self.rest = (self.rest * 5 / 4).min(longest);
        }
        let enough = turn.frames >= WORTH || (room >= MUCH_ROOM && turn.bytes >= WORTH_BYTES);
        let worth = enough && self.rest >= SHORTEST;
        if worth {
            self.misses = 0;
        }
        worth
    }

    fn give_up(&mut self, now: Instant) {
        (self.bulk, self.misses, self.slow, self.window) = (false, 0, 0, None);
        self.not_before = Some(now + self.penalty);
        self.penalty = (self.penalty * 2).min(LONGEST_PENALTY);
    }

    fn look(&mut self, turn: Turn, now: Instant) {
        let (rx_bytes, tx_bytes) = (turn.rx_bytes, turn.tx_bytes);
        let Some(window) = &mut self.window else {
            self.window = Some(Window { since: now, rx_bytes, tx_bytes, frames: 0, turns: 0 });
            return;
        };
        window.frames += turn.frames as u64;
        window.turns += 1;
        let time = now.duration_since(window.since);
        if time < WINDOW {
            return;
        }
        let window = *window;
        self.window = Some(Window { since: now, rx_bytes, tx_bytes, frames: 0, turns: 0 });
        let (came, went) = (rx_bytes - window.rx_bytes, tx_bytes - window.tx_bytes);
        let least = LEAST_RATE * u64::try_from(time.as_micros()).unwrap_or(u64::MAX / LEAST_RATE);
        let in_time = time >= LEAST_GAP * u32::try_from(window.frames).unwrap_or(u32::MAX);
        let one_way = came >= least && came >= ONE_WAY * went && in_time;
        let pace = came * 1000 / u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        if self.bulk && one_way && pace * 8 < self.pace * EIGHTHS {
            self.slow += 1;
            if self.slow >= SLOW_WINDOWS {
                self.give_up(now);
            }
            return;
        }
        self.slow = 0;
        let stays = one_way && self.bulk;
        let begins =
            one_way && window.frames < HANDFUL * window.turns && self.not_before.is_none_or(|time| now >= time);
        if stays {
            self.penalty = FIRST_PENALTY;
        } else if begins {
            self.rest = FIRST;
            self.pace = pace;
        }
        self.bulk = stays || begins;
    }
}

/// So much of `room` that a sender would soon have to wait.
fn nearly(room: usize) -> usize {
    room / 8 * 7
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux gives a socket.
    const ROOM: usize = 212_992;

    /// A ring of 256 entries.
    const RING: usize = 768 << 10;

    const FULL: u64 = 1518;

    /// A sender, and a clock that only it moves.
    struct Sender {
        gather: Gather,
        now: Instant,
        room: usize,
        rx_bytes: u64,
        tx_bytes: u64,
        rests: Vec<Duration>,
    }

    impl Sender {
        fn new() -> Self {
            Self::with_room(ROOM)
        }

        fn with_room(room: usize) -> Self {
            let (gather, now) = (Gather::default(), Instant::now());
            Self { gather, now, room, rx_bytes: 0, tx_bytes: 0, rests: Vec::new() }
        }

        /// A turn after `time` that brings `frames` of `len` bytes, `answer` bytes having gone the other way.
        fn turn(&mut self, time: Duration, frames: usize, len: u64, answer: u64) -> Option<Duration> {
            self.now += time;
            self.rx_bytes += frames as u64 * len;
            self.tx_bytes += answer;
            let (rx_bytes, tx_bytes) = (self.rx_bytes, self.tx_bytes);
            let turn = Turn { frames, bytes: frames * len as usize, rx_bytes, tx_bytes, full: false };
            let rest = self.gather.after(turn, self.room, self.now);
            self.rests.extend(rest);
            rest
        }

        /// For `time`: a frame of `len` bytes every `gap`, read after a rest, else each at once.
        fn stream(&mut self, time: Duration, gap: Duration, len: u64) {
            let end = self.now + time;
            let mut rest = None;
            while self.now < end {
                let pause = rest.unwrap_or(Duration::ZERO).max(gap);
                let frames = (pause.as_nanos() / gap.as_nanos()) as usize;
                rest = self.turn(pause, frames, len, 66 * (frames as u64 / 2));
            }
        }
    }

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_bulk_transfer_is_read_in_rests_soon_and_for_as_long_as_it_lasts() {
        let mut sender = Sender::new();
        sender.stream(Duration::from_millis(50), micros(12), FULL);
        assert_eq!(sender.rests[0], FIRST);
        assert_eq!(sender.rests.last(), Some(&LONGEST));
        let resting: Duration = sender.rests.iter().sum();
        assert!(resting > Duration::from_millis(40), "{resting:?}");
    }

    #[test]
    fn a_faster_one_rests_for_less_and_does_not_fill_its_socket() {
        for gap in [12, 10, 7, 5].map(micros) {
            let mut sender = Sender::new();
            sender.stream(Duration::from_millis(100), gap, FULL);
            let rest = sender.rests.last().copied().unwrap_or_default();
            let filled = rest.as_nanos() / gap.as_nanos() * (u128::from(FULL) + ROOM_A_FRAME as u128);
            assert!(rest >= SHORTEST && filled <= ROOM as u128, "{gap:?}: {rest:?}, {filled}");
        }
    }

    #[test]
    fn one_that_is_too_fast_for_a_rest_has_hardly_any() {
        let mut sender = Sender::new();
        sender.stream(Duration::from_millis(200), Duration::from_nanos(900), FULL);
        let resting: Duration = sender.rests.iter().sum();
        assert!(resting < Duration::from_millis(4), "{resting:?}");
    }

    #[test]
    fn one_that_brings_full_batches_by_itself_is_left_as_it_is() {
        let mut sender = Sender::new();
        for _ in 0..10_000 {
            assert_eq!(sender.turn(micros(60), 40, FULL, 0), None);
        }
    }

    #[test]
    fn ping_and_pong_is_never_delayed() {
        for len in [60, FULL, 60_000] {
            let mut sender = Sender::new();
            for _ in 0..10_000 {
                assert_eq!(sender.turn(micros(20), 1, len, len), None, "{len}");
            }
        }
    }

    #[test]
    fn large_questions_with_small_answers_are_hardly_ever_delayed() {
        let mut sender = Sender::new();
        let mut rest = None;
        for _ in 0..100_000 {
            // The next question comes when the answer to this one has gone out.
            rest = sender.turn(rest.unwrap_or(micros(25)).max(micros(25)), 1, FULL, 66);
        }
        assert!(!sender.rests.is_empty());
        let delayed: Duration = sender.rests.iter().sum();
        assert!(delayed < micros(25) * 100_000 / 200, "{delayed:?}");
    }

    #[test]
    fn a_guest_that_makes_a_super_frame_in_each_rest_need_not_kick() {
        let mut sender = Sender::with_room(RING);
        for turn in 0..1_000 {
            // As fast as it can, and no faster for being left alone.
            let pause = sender.rests.last().copied().filter(|_| turn > 20).unwrap_or(micros(200));
            sender.turn(pause, (pause.as_micros() / 190).max(1) as usize, 64_000, 132);
        }
        assert_eq!(sender.rests.last(), Some(&LONGEST_WITH_ROOM));
        assert!(sender.rests.len() > 900, "{}", sender.rests.len());
    }

    #[test]
    fn large_questions_in_super_frames_are_hardly_ever_delayed() {
        let (mut sender, mut rest) = (Sender::with_room(RING), None);
        let begun = sender.now;
        for _ in 0..100_000 {
            rest = sender.turn(rest.unwrap_or(micros(60)).max(micros(60)), 1, 64_000, 66);
        }
        assert!(!sender.rests.is_empty());
        let lost = sender.now.duration_since(begun) - micros(60) * 100_000;
        assert!(lost < micros(60) * 100_000 / 50, "{lost:?}");
    }

    #[test]
    fn after_a_full_turn_there_is_no_rest() {
        let mut sender = Sender::with_room(RING);
        for _ in 0..1_000 {
            sender.now += micros(50);
            sender.rx_bytes += 128_000;
            let (rx_bytes, tx_bytes) = (sender.rx_bytes, sender.tx_bytes);
            let turn = Turn { frames: 2, bytes: 128_000, rx_bytes, tx_bytes, full: true };
            assert_eq!(sender.gather.after(turn, RING, sender.now), None);
        }
    }

    #[test]
    fn a_transfer_that_ends_is_waited_for_once() {
        let mut sender = Sender::new();
        sender.stream(Duration::from_millis(20), micros(12), FULL);
        while sender.turn(micros(12), 1, FULL, 0).is_none() {}
        let before = sender.rests.len();
        assert_eq!(sender.turn(LONGEST, 0, FULL, 0), None);
        for _ in 0..100 {
            assert_eq!(sender.turn(Duration::from_millis(5), 1, 60, 60), None);
        }
        assert_eq!(sender.rests.len(), before);
        // And the next one is noticed all the same.
        sender.stream(Duration::from_millis(20), micros(12), FULL);
        assert!(sender.rests.len() > before + 20);
    }

    #[test]
    fn large_frames_of_which_few_fit_are_read_at_once() {
        let mut sender = Sender::new();
        sender.stream(Duration::from_millis(50), micros(100), 65_000);
        let resting: Duration = sender.rests.iter().sum();
        assert!(resting < Duration::from_millis(2), "{resting:?}");
    }
}
