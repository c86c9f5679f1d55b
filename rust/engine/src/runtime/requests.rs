//! What the handle asks of the loop, and how the loop answers.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::Loop;
use crate::capture::{CaptureId, CaptureStats, Tap, Taps};
use crate::endpoint::{Endpoint, EndpointStats};
use crate::error::EngineError;
use crate::event::EndpointId;
use crate::mac_table::Station;
use crate::port::Port;
use crate::port::slirp::Forward;

/// Everything that is said about an endpoint when it is attached.
pub(crate) struct Attachment {
    pub(crate) port: u16,
    pub(crate) name: String,
    pub(crate) receive_only: bool,
    pub(crate) io: Box<dyn Port>,
}

/// What the handle asks of the loop. A reply that nobody waits for is no error.
pub(crate) enum Command {
    Attach(Attachment, SyncSender<Result<EndpointId, EngineError>>),
    Detach(EndpointId, SyncSender<()>),
    /// Door, address of a sender, and the endpoint that is theirs; none to turn it away.
    Admit(EndpointId, Vec<u8>, Option<EndpointId>, SyncSender<()>),
    ShareSocket(EndpointId, SyncSender<()>),
    Forward(EndpointId, Forward, bool, SyncSender<io::Result<()>>),
    SetPort(u16, bool, SyncSender<()>),
    StartCapture(Tap, SyncSender<()>),
    /// Nobody waits for an answer to a capture that ends by itself.
    StopCapture(CaptureId, &'static str, Option<SyncSender<Option<CaptureStats>>>),
    Captures(SyncSender<Vec<CaptureStats>>),
    Counters(SyncSender<Vec<EndpointStats>>),
    Stations(SyncSender<Vec<Station>>),
    Stop,
}

impl Loop {
    /// Carry out what the handle asked for; `true` to stop.
    pub(super) fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Attach(attachment, reply) => {
                    let result = self.attach(attachment);
                    let attached = result.as_ref().ok().copied();
                    if let (Err(_), Some(id)) = (reply.send(result), attached) {
                        self.detach(id); // whoever asked had gone away before
                    }
                }
                Command::Detach(id, reply) => {
                    self.detach(id);
                    let _ = reply.send(());
                }
                Command::Admit(door, address, endpoint, reply) => {
                    match endpoint {
                        Some(endpoint) => self.admit(door, &address, endpoint),
                        None => self.turn_away(door, &address),
                    }
                    let _ = reply.send(());
                }
                Command::ShareSocket(id, reply) => {
                    self.share_socket(id);
                    let _ = reply.send(());
                }
                Command::Forward(id, forward, on, reply) => {
                    let found = self.endpoints.all_mut().find(|endpoint| endpoint.id == id);
                    let unknown = || Err(io::ErrorKind::NotFound.into());
                    let _ = reply.send(found.map_or_else(unknown, |one| one.port.forward(&forward, on)));
                }
                Command::SetPort(port, up, reply) => {
                    self.set_port(port, up);
                    let _ = reply.send(());
                }
                Command::StartCapture(tap, reply) => {
                    let taps = self.taps.get_or_insert_with(|| Box::new(Taps::new(Arc::clone(&self.events))));
                    taps.start(tap, &self.endpoints);
                    let _ = reply.send(());
                }
                Command::StopCapture(id, reason, reply) => {
                    let stats = self.taps.as_mut().and_then(|taps| taps.stop(id, reason));
                    self.taps.take_if(|taps| taps.is_empty());
                    if let Some(reply) = reply {
                        let _ = reply.send(stats);
                    }
                }
                Command::Captures(reply) => {
                    let _ = reply.send(self.taps.as_ref().map_or_else(Vec::new, |taps| taps.stats()));
                }
                Command::Counters(reply) => {
                    let _ = reply.send(self.endpoints.all().map(Endpoint::stats).collect());
                }
                Command::Stations(reply) => {
                    let _ = reply.send(self.switch.stations(self.millis()));
                }
                Command::Stop => return true,
            }
        }
        false
    }
}
