//! What the framework's return codes mean for frames, and how often one is worth a word. Pure.

use std::fmt;
use std::time::{Duration, Instant};

/// `VMNET_SUCCESS`, which is not zero.
const SUCCESS: u32 = 1000;

/// A trouble that lasts is told again after this. Chosen: often enough to be seen in a log, rarely enough not to
/// fill one.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Kinds of trouble told in that time at most; there are hardly as many.
const DIFFERENT: usize = 16;

/// A `vmnet_return_t` that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

/// `vmnet_return_t` as a result.
pub(super) fn check(value: u32) -> Result<(), Status> {
    if value == SUCCESS { Ok(()) } else { Err(Status(value)) }
}

/// What a refused write means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// One of the frames, and no others.
    Frame,
    /// There is no room at the moment.
    Moment,
    /// The interface, or the call; frames have nothing to do with it.
    Interface,
}

impl Status {
    pub(super) fn blame(self) -> Blame {
        match self.0 {
            // VMNET_INVALID_ARGUMENT, VMNET_PACKET_TOO_BIG; VMNET_TOO_MANY_PACKETS cannot be said of one.
            1003 | 1006 | 1008 => Blame::Frame,
            // VMNET_BUFFER_EXHAUSTED
            1007 => Blame::Moment,
            _ => Blame::Interface,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1001 => "VMNET_FAILURE",
            1002 => "VMNET_MEM_FAILURE",
            1003 => "VMNET_INVALID_ARGUMENT",
            1004 => "VMNET_SETUP_INCOMPLETE",
            1005 => "VMNET_INVALID_ACCESS",
            1006 => "VMNET_PACKET_TOO_BIG",
            1007 => "VMNET_BUFFER_EXHAUSTED",
            1008 => "VMNET_TOO_MANY_PACKETS",
            1009 => "VMNET_SHARING_SERVICE_BUSY",
            1010 => "VMNET_NOT_AUTHORIZED",
            other => return write!(f, "status {other}"),
        };
        write!(f, "{name} ({})", self.0)
    }
}

/// One kind of trouble: which call, what it gave, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) call: &'static str,
    pub(super) status: Status,
    pub(super) then: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} gives {}; {}", self.call, self.status, self.then)
    }
}

/// What was said when, so that trouble that comes with every frame is told once a minute.
#[derive(Default)]
pub(super) struct Complaints {
    said: Vec<(Trouble, Instant)>,
    waiting: Option<Trouble>,
}

impl Complaints {
    /// This is the matter at `now`. Says whether there is something to be taken.
    pub(super) fn note(&mut self, trouble: Trouble, now: Instant) -> bool {
        self.said.retain(|(_, when)| now.saturating_duration_since(*when) < SAID_AGAIN);
        if self.said.len() < DIFFERENT && self.said.iter().all(|(said, _)| *said != trouble) {
            self.said.push((trouble, now));
            self.waiting = Some(trouble);
        }
        self.waiting.is_some()
    }

    /// What is to be said, once.
    pub(super) fn take(&mut self) -> Option<Trouble> {
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Trouble = Trouble { call: "vmnet_write", status: Status(1007), then: "frames wait" };
    const BROKEN: Trouble = Trouble { call: "vmnet_read", status: Status(1001), then: "trying again" };

    #[test]
    fn a_thousand_is_success_and_zero_is_not() {
        assert_eq!(check(1000), Ok(()));
        assert_eq!(check(0), Err(Status(0)));
        assert_eq!(check(1001), Err(Status(1001)));
    }

    #[test]
    fn every_code_is_called_by_its_name() {
        assert_eq!(FULL.to_string(), "vmnet_write gives VMNET_BUFFER_EXHAUSTED (1007); frames wait");
        assert_eq!(Status(77).to_string(), "status 77");
        for code in 1001..=1010 {
            assert!(Status(code).to_string().starts_with("VMNET_"));
        }
    }

    #[test]
    fn trouble_with_every_frame_is_said_once_a_minute() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let mut said = Vec::new();
        for second in 0..150 {
            for _ in 0..100 {
                let now = start + Duration::from_secs(second);
                for trouble in [FULL, BROKEN] {
                    complaints.note(trouble, now);
                    said.extend(complaints.take());
                }
            }
        }
        assert_eq!(said, [FULL, BROKEN, FULL, BROKEN, FULL, BROKEN]);
    }

    #[test]
    fn however_many_kinds_there_are_few_are_said() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let said = (0..10_000).filter_map(|code| {
            complaints.note(Trouble { status: Status(code), ..BROKEN }, now);
            complaints.take()
        });
        assert_eq!(said.count(), DIFFERENT);
    }
}
