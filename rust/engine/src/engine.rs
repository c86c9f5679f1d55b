//! The handle of a running loop: starts its thread, asks it for things, ends it.

use std::any::Any;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::capture::writer::{self, Control};
use crate::capture::{self, CaptureConfig, CaptureId, CaptureStats, MOST_CAPTURES, Tap};
use crate::endpoint::EndpointStats;
use crate::error::EngineError;
use crate::event::{EndpointId, Event, EventQueue};
use crate::mac_table::{MacTable, Station};
use crate::port::Port;
use crate::port::slirp::Forward;
use crate::runtime::{Attachment, Command, Loop};
use crate::sys::{Waker, ring};

/// Requests under way before a further one has to wait; the loop takes all of them at once.
const COMMANDS: usize = 64;

/// What can be chosen about an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Addresses that the switch remembers at most.
    pub fdb_capacity: usize,
    /// How long it remembers one that is silent.
    pub fdb_ageing: Duration,
    /// For how long the loop asks for more after each round with something in it, before it goes to sleep.
    pub busy_poll: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { fdb_capacity: 8192, fdb_ageing: Duration::from_secs(300), busy_poll: Duration::ZERO }
    }
}

/// A running engine. All methods may be called from any thread; dropping it ends it.
pub struct Engine {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    events: Arc<EventQueue>,
    /// Why the thread ended, once it has.
    ended: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    captures: Mutex<Captures>,
}

/// The captures' threads, of those also that are over and still have something to write.
#[derive(Default)]
struct Captures {
    started: CaptureId,
    writers: Vec<(Arc<Control>, JoinHandle<()>)>,
}

impl Captures {
    fn forget_the_finished(&mut self) {
        self.writers.retain(|(_, thread)| !thread.is_finished());
    }
}

/// An answer under way.
pub struct Pending<T> {
    reply: Receiver<T>,
    ended: Arc<OnceLock<String>>,
}

impl<T> Pending<T> {
    /// Wait for the answer; `None` when it was not there in time. The loop answers well under a millisecond,
    /// so that `patience` is for a caller that must look after something else now and then.
    ///
    /// # Errors
    /// [`EngineError::Ended`] when there will be none.
    pub fn wait(&self, patience: Duration) -> Result<Option<T>, EngineError> {
        match self.reply.recv_timeout(patience) {
            Ok(answer) => Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended(&self.ended)),
        }
    }
}

fn ended(reason: &OnceLock<String>) -> EngineError {
    EngineError::Ended(reason.get().map_or("closed", String::as_str).to_owned())
}

impl Engine {
    /// Start the thread.
    ///
    /// # Errors
    /// [`EngineError::Start`] when the kernel gives no poller, socket pair or thread.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let (waker, waker_end) = Waker::new().map_err(EngineError::Start)?;
        let events = Arc::new(EventQueue::new().map_err(EngineError::Start)?);
        let ended = Arc::new(OnceLock::new());
        let (commands, receiver) = mpsc::sync_channel(COMMANDS);
        let ageing = u64::try_from(config.fdb_ageing.as_millis()).unwrap_or(u64::MAX);
        let table = MacTable::new(config.fdb_capacity, ageing);
        let mut frames = Loop::new(waker_end, receiver, Arc::clone(&events), table, config.busy_poll)
            .map_err(EngineError::Start)?;
        let (loop_events, loop_ended) = (Arc::clone(&events), Arc::clone(&ended));
        let body = move || {
            // The loop is dropped inside, so that a panic closes what it owned before it is reported.
            let result = panic::catch_unwind(AssertUnwindSafe(move || frames.run()));
            if let Some(reason) = failure(result) {
                let _ = loop_ended.set(reason.clone());
                loop_events.push(Event::EngineFailed { reason });
            }
        };
        let thread =
            thread::Builder::new().name("vde-engine".into()).spawn(body).map_err(EngineError::Start)?;
        let (waker, captures) = (Arc::new(waker), Mutex::default());
        Ok(Self { commands, waker, events, ended, thread: Mutex::new(Some(thread)), captures })
    }

    /// Put a port on the switch. The answer is the endpoint's number; if whoever asked is gone before the loop
    /// answers, the endpoint is taken off again. Gone later, between the answer and the wait for it, leaves it.
    ///
    /// # Errors
    /// [`EngineError::Ended`]; the answer may be [`EngineError::Register`].
    pub fn attach(
        &self,
        port: u16,
        name: String,
        receive_only: bool,
        io: Box<dyn Port>,
    ) -> Result<Pending<Result<EndpointId, EngineError>>, EngineError> {
        self.ask(|reply| Command::Attach(Attachment { port, name, receive_only, io }, reply))
    }

    /// Take an endpoint off the switch and close its descriptor. One that is not there is no error.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn detach(&self, endpoint: EndpointId) -> Result<Pending<()>, EngineError> {
        self.ask(|reply| Command::Detach(endpoint, reply))
    }

    /// What comes to `door` from `address`, an [`Event::Newcomer`]'s, is `endpoint`'s from now on; without one it is
    /// turned away, and a newcomer again with its next datagram. A door or endpoint that is not there is no error.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn admit(
        &self,
        door: EndpointId,
        address: &[u8],
        endpoint: Option<EndpointId>,
    ) -> Result<Pending<()>, EngineError> {
        self.ask(|reply| Command::Admit(door, address.to_vec(), endpoint, reply))
    }

    /// Others send from an endpoint's socket too from now on: a [`crate::port::Kind::Reply`] leaves an eighth of its
    /// buffer at most unread. An endpoint that is not there is no error.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn share_socket(&self, endpoint: EndpointId) -> Result<Pending<()>, EngineError> {
        self.ask(|reply| Command::ShareSocket(endpoint, reply))
    }

    /// Open (`on`) or close a way in from outside at an endpoint that has such. The answer may be an error: of the
    /// kernel, `NotFound` without such an endpoint, `Unsupported` when it has no ways in.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn forward(
        &self,
        endpoint: EndpointId,
        forward: Forward,
        on: bool,
    ) -> Result<Pending<io::Result<()>>, EngineError> {
        self.ask(|reply| Command::Forward(endpoint, forward, on, reply))
    }

    /// Put a port up or down. All that comes from a port that is down, and all that would go to it, is dropped as
    /// [`crate::stats::DropReason::PortDown`], also of endpoints that join it later; its stations are forgotten.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn set_port(&self, port: u16, up: bool) -> Result<Pending<()>, EngineError> {
        self.ask(|reply| Command::SetPort(port, up, reply))
    }

    /// Write what is captured from now on to `target`, a socket or a pipe that becomes non-blocking, or a file. It ends
    /// by [`Engine::stop_capture`], when its reader goes or shuts its end of a socket down, after the limit of
    /// frames, and with the engine; what waits is then still written. [`Event::CaptureEnded`] says so each time.
    ///
    /// # Errors
    /// [`EngineError::TooManyCaptures`], [`EngineError::Capture`], [`EngineError::Ended`].
    pub fn start_capture(
        &self,
        target: OwnedFd,
        config: CaptureConfig,
    ) -> Result<(CaptureId, Pending<()>), EngineError> {
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.forget_the_finished();
        if captures.writers.len() >= MOST_CAPTURES {
            return Err(EngineError::TooManyCaptures);
        }
        captures.started += 1;
        let id = captures.started;
        let (commands, waker) = (self.commands.clone(), Arc::clone(&self.waker));
        let leave = move |reason| {
            // Fails only when the loop has ended, and with it the capture.
            let _ = commands.send(Command::StopCapture(id, reason, None));
            waker.wake();
        };
        let buffer = config.buffer.clamp(*capture::BUFFERS.start(), *capture::BUFFERS.end());
        let (producer, consumer) = ring(buffer);
        let (control, thread) =
            writer::start(consumer, target, Box::new(leave)).map_err(EngineError::Capture)?;
        captures.writers.push((Arc::clone(&control), thread));
        let tap = Tap::new(id, config, producer, control);
        Ok((id, self.ask(|reply| Command::StartCapture(tap, reply))?))
    }

    /// End a capture; its numbers, if it was there.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn stop_capture(&self, capture: CaptureId) -> Result<Pending<Option<CaptureStats>>, EngineError> {
        self.ask(|reply| Command::StopCapture(capture, "stopped", Some(reply)))
    }

    /// The numbers of all captures that go on.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn captures(&self) -> Result<Pending<Vec<CaptureStats>>, EngineError> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner).forget_the_finished();
        self.ask(Command::Captures)
    }

    /// The numbers of all endpoints.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn counters(&self) -> Result<Pending<Vec<EndpointStats>>, EngineError> {
        self.ask(Command::Counters)
    }

    /// What the switch has learned.
    ///
    /// # Errors
    /// [`EngineError::Ended`].
    pub fn stations(&self) -> Result<Pending<Vec<Station>>, EngineError> {
        self.ask(Command::Stations)
    }

    /// What happened since the last call, oldest first.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    /// Readable while [`Engine::take_events`] has something to give. It stays open until the engine is dropped.
    pub fn event_descriptor(&self) -> RawFd {
        self.events.descriptor()
    }

    /// Close every endpoint, end every capture (half a second at most), and wait for the threads to end. A second call does nothing.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Sending fails only when the thread has ended already.
            let _ = self.commands.send(Command::Stop);
            self.waker.wake();
            let _ = thread.join();
        }
        let writers = std::mem::take(&mut self.captures.lock().unwrap_or_else(PoisonError::into_inner).writers);
        for (control, _) in &writers {
            control.hurry();
        }
        for (_, thread) in writers {
            let _ = thread.join();
        }
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<Pending<T>, EngineError> {
        let (sender, reply) = mpsc::sync_channel(1);
        self.commands.send(command(sender)).map_err(|_| ended(&self.ended))?;
        self.waker.wake();
        Ok(Pending { reply, ended: Arc::clone(&self.ended) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why the loop ended, unless it was told to.
fn failure(result: Result<io::Result<()>, Box<dyn Any + Send>>) -> Option<String> {
    match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the poller failed: {error}")),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Some(format!("a bug in the frame path: {}", text.unwrap_or_default()))
        }
    }
}
