//! The thread that writes a capture's records to its descriptor, at idle priority.
//!
//! It sleeps while there are none; the first record of a quiet time wakes it. Under load it naps instead, so that the
//! loop need not wake it for each batch. A descriptor that takes nothing is waited for; one that is broken, or a
//! socket whose peer has said that it will write no more, ends the capture.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::pace::{Look, Pace};
use crate::port::descriptor;
use crate::sys::{self, Consumer, Interest, OwnShare, Poller, Waker, WakerEnd};

/// How long it waits for more after it has written all there was. Chosen: a full-speed stream of full frames fills
/// a megabyte in that time, a quarter of the default buffer, and waking it costs the loop nothing then.
const NAP: Duration = Duration::from_millis(1);

/// Bytes that one call writes at most, so that room comes back soon, and who has work to do need not wait long for
/// the processor.
const PORTION: usize = 64 << 10;

/// How long a reader may take nothing after the capture's end before the rest is given up.
const GRACE: Duration = Duration::from_secs(2);

/// How long the rest may take altogether when the engine closes.
const HURRY: Duration = Duration::from_millis(500);

/// What the loop, the writer and the handle know of each other.
pub(crate) struct Control {
    waker: Waker,
    asleep: AtomicBool,
    gone: AtomicBool,
    /// Frames that were put into the ring, and that found no room.
    frames: AtomicU64,
    dropped: AtomicU64,
    /// Set once at the end of the capture: what the file ends with.
    last: OnceLock<Vec<u8>>,
    hurry: AtomicBool,
}

impl Control {
    fn new() -> io::Result<(Arc<Self>, WakerEnd)> {
        let (waker, end) = Waker::new()?;
        let [asleep, gone, hurry] = [false; 3].map(AtomicBool::new);
        let [frames, dropped] = [0; 2].map(AtomicU64::new);
        Ok((Arc::new(Self { waker, asleep, gone, frames, dropped, last: OnceLock::new(), hurry }), end))
    }

    /// Something was published. Costs the loop a system call only after a quiet time.
    pub(crate) fn wake(&self) {
        // With the fence in `Writer::sleep`: either it sees what was published, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// So many frames were put into the ring in all, and so many found no room.
    pub(crate) fn count(&self, frames: u64, dropped: u64) {
        self.frames.store(frames, Ordering::Relaxed);
        self.dropped.store(dropped, Ordering::Relaxed);
    }

    /// The capture is over: write what there is, then `last`.
    pub(crate) fn finish(&self, last: Vec<u8>) {
        let _ = self.last.set(last);
        self.waker.wake();
    }

    /// The engine closes: be quick about it.
    pub(crate) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// Why writing ended.
enum End {
    /// Everything is written.
    Written,
    /// Whoever reads has gone or takes too long.
    Gone,
}

struct Writer {
    records: Consumer,
    file: File,
    /// Sockets and pipes are; other files are always ready and have no peer.
    watched: bool,
    /// The peer of a socket may still say that it has had enough.
    hears: bool,
    /// Asks the loop to end the capture, and says why.
    leave: Option<Leave>,
    poller: Poller,
    waker: WakerEnd,
    control: Arc<Control>,
    /// Since when the capture has been over.
    over: Option<Instant>,
    /// When something was last taken.
    taken: Instant,
}

/// Names of the poller's two descriptors.
const WAKER: u32 = 0;
const FILE: u32 = 1;

/// What is called, from the writer's thread, when the reader has gone or wants no more.
pub(crate) type Leave = Box<dyn FnOnce(&'static str) + Send>;

/// Start the thread that writes `records` to `target`.
///
/// # Errors
/// What the kernel says when there is no descriptor or thread left.
pub(crate) fn start(
    records: Consumer,
    target: OwnedFd,
    leave: Leave,
) -> io::Result<(Arc<Control>, JoinHandle<()>)> {
    let (control, waker) = Control::new()?;
    descriptor::set_nonblocking(target.as_fd())?;
    let file = File::from(target);
    let kind = file.metadata()?.file_type();
    let (watched, hears) = (kind.is_socket() || kind.is_fifo(), kind.is_socket());
    let mut poller = Poller::new();
    poller.add(waker.descriptor(), WAKER, Interest::READ)?;
    if watched {
        poller.add(file.as_raw_fd(), FILE, Interest { read: hears, write: false })?;
    }
    let mut writer = Writer {
        records,
        file,
        watched,
        hears,
        leave: Some(leave),
        poller,
        waker,
        control: Arc::clone(&control),
        over: None,
        taken: Instant::now(),
    };
    let body = move || {
        sys::run_when_idle();
        if !matches!(writer.run(), Ok(End::Written)) {
            writer.control.gone.store(true, Ordering::Relaxed);
            writer.ask_for_the_end("nobody reads it any more");
        }
    };
    let thread = thread::Builder::new().name("vde-capture".into()).spawn(body)?;
    Ok((control, thread))
}

impl Writer {
    fn run(&mut self) -> io::Result<End> {
        let (mut pace, share) = (Pace::new(Instant::now()), OwnShare::open());
        loop {
            let over = self.control.last.get().is_some();
            let mut busy = false;
            loop {
                let bytes = self.records.readable();
                if bytes.is_empty() {
                    break;
                }
                busy = true;
                let portion = bytes.len().min(PORTION);
                match self.file.write(&bytes[..portion]) {
                    Ok(0) => return Ok(End::Gone),
                    Ok(count) => {
                        self.records.consume(count);
                        self.taken = Instant::now();
                        let nap = pace.wrote(count, self.taken, || self.look(&share)).filter(|_| !over);
                        if nap.is_some() {
                            self.wait(nap, false)?;
                        }
                    }
                    Err(error) => self.wait_for_room(&error)?,
                }
                if self.is_too_late() {
                    return Ok(End::Gone);
                }
            }
            if over {
                return self.write_last();
            }
            if busy {
                self.wait(Some(NAP), false)?;
            } else {
                self.sleep()?;
            }
        }
    }

    fn look(&self, share: &OwnShare) -> Look {
        let frames = self.control.frames.load(Ordering::Relaxed);
        Look { share: share.get(), frames, dropped: self.control.dropped.load(Ordering::Relaxed) }
    }

    /// Everything else has been written.
    fn write_last(&mut self) -> io::Result<End> {
        let mut last = self.control.last.get().cloned().unwrap_or_default();
        while !last.is_empty() {
            match self.file.write(&last) {
                Ok(0) => return Ok(End::Gone),
                Ok(count) => drop(last.drain(..count)),
                Err(error) => self.wait_for_room(&error)?,
            }
            if self.is_too_late() {
                return Ok(End::Gone);
            }
        }
        Ok(End::Written)
    }

    fn is_too_late(&mut self) -> bool {
        if self.control.last.get().is_none() {
            return false;
        }
        let over = *self.over.get_or_insert_with(Instant::now);
        let waited = self.taken.max(over).elapsed();
        waited > GRACE || self.control.hurry.load(Ordering::Relaxed) && over.elapsed() > HURRY
    }

    fn wait_for_room(&mut self, error: &io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock if self.watched => {
                let over = self.control.last.get().is_some();
                self.wait(over.then_some(HURRY / 4), true)
            }
            _ => Err(io::Error::from(error.kind())),
        }
    }

    /// Until there is something to do.
    fn sleep(&mut self) -> io::Result<()> {
        self.control.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.records.readable().is_empty() && self.control.last.get().is_none() {
            self.wait(None, false)?;
        }
        self.control.asleep.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Until woken, or there is room (if that is waited for), or the reader has gone, which is an error.
    fn wait(&mut self, timeout: Option<Duration>, room: bool) -> io::Result<()> {
        if self.watched {
            let interest = Interest { read: self.hears, write: room };
            self.poller.change(self.file.as_raw_fd(), FILE, interest)?;
        }
        let mut reports = Vec::new();
        self.poller.wait(&mut reports, timeout)?;
        for report in reports {
            if report.token == WAKER {
                self.waker.clear();
            } else if report.broken {
                return Err(io::ErrorKind::BrokenPipe.into());
            } else if report.readable {
                self.listen()?;
            }
        }
        Ok(())
    }

    /// What the reader of a socket says means nothing; that this was all ends the capture, and the rest is written.
    fn listen(&mut self) -> io::Result<()> {
        match self.file.read(&mut [0; 512]) {
            Ok(0) => {
                self.hears = false;
                self.ask_for_the_end("its reader has had enough");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ask_for_the_end(&mut self, reason: &'static str) {
        if let Some(leave) = self.leave.take() {
            leave(reason);
        }
    }
}
