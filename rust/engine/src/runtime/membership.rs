//! Who is there: endpoints that are attached and go, and newcomers at a door, who are told to the control plane and
//! then admitted as the peer of an endpoint, or turned away.

use super::{Attachment, Loop};
use crate::endpoint::Endpoint;
use crate::error::EngineError;
use crate::event::{EndpointId, Event};
use crate::pool::{BATCH, Received};
use crate::stats::DropReason;
use crate::switch::{Member, Slot};
use crate::sys::Interest;
use crate::vnet_header::{self, VnetHeader};

impl Loop {
    pub(super) fn attach(&mut self, attachment: Attachment) -> Result<EndpointId, EngineError> {
        let Attachment { port, name, receive_only, mut io } = attachment;
        let slot = self.endpoints.reserve();
        if let Err(source) = self.poller.add(io.descriptor(), slot, Interest::READ) {
            self.endpoints.give_back(slot);
            return Err(EngineError::Register { name, source });
        }
        let member = Member { slot, port, receive_only };
        let id = self.next_id;
        self.next_id += 1;
        let is_place = io.sources().is_none();
        let mut endpoint = Endpoint::new(id, member, name, io);
        endpoint.down = !self.switch.is_up(port);
        endpoint.is_place = is_place;
        self.endpoints.put(slot, endpoint);
        if is_place {
            self.switch.join(member);
        }
        self.watch(slot);
        Ok(id)
    }

    pub(super) fn detach(&mut self, id: EndpointId) {
        if let Some(slot) = self.slot_of(id) {
            self.remove(slot);
        }
        self.events.forget(id);
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Endpoint> {
        self.stop_waiting_for(slot);
        let endpoint = self.endpoints.take(slot)?;
        self.poller.remove(endpoint.port.descriptor());
        self.switch.leave(slot, endpoint.member.port);
        self.forget_sender(slot);
        Some(endpoint)
    }

    pub(super) fn set_port(&mut self, port: u16, up: bool) {
        self.switch.set_port(port, up);
        let members = self.endpoints.all_mut().filter(|endpoint| endpoint.member.port == port);
        let mut slots = Vec::new();
        for endpoint in members {
            endpoint.set_down(!up, &mut self.pool);
            slots.push(endpoint.member.slot);
        }
        for slot in slots {
            // Whoever waited for what was queued there waits no longer.
            self.stop_waiting_for(slot);
            self.watch(slot);
        }
    }

    pub(super) fn share_socket(&mut self, id: EndpointId) {
        let Some(slot) = self.slot_of(id) else { return };
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.port.share_socket();
        }
        // What it waited for may not come any more, now that others use the socket.
        self.watch(slot);
    }

    fn slot_of(&self, id: EndpointId) -> Option<Slot> {
        self.endpoints.all().find(|endpoint| endpoint.id == id).map(|endpoint| endpoint.member.slot)
    }

    /// Tell of those who sent something for the first time in the batch that was just read.
    pub(super) fn report_newcomers(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else { return };
        let Some(sources) = endpoint.port.sources() else { return };
        for address in sources.take_newcomers() {
            let (endpoint, port) = (endpoint.id, endpoint.member.port);
            self.events.push(Event::Newcomer { endpoint, port, address });
        }
    }

    /// What comes to the door from `address` is the endpoint's from now on, and so is what was kept. Nothing happens
    /// when either has gone.
    pub(super) fn admit(&mut self, door: EndpointId, address: &[u8], endpoint: EndpointId) {
        let (Some(door), Some(slot)) = (self.slot_of(door), self.slot_of(endpoint)) else { return };
        let Some(sources) = self.endpoints.get_mut(door).and_then(|door| door.port.sources()) else { return };
        let held = sources.admit(address, slot);
        self.batch.restart(BATCH);
        for frame in held {
            if let Some(place) = self.batch.free_slots().next() {
                place[vnet_header::LEN..][..frame.len()].copy_from_slice(&frame);
            }
            self.batch.push(Received::Frame(frame.len()), Some(VnetHeader::default()));
            self.batch.set_origin(self.batch.len() - 1, slot);
        }
        if let Some(endpoint) = self.endpoints.get_mut(door) {
            endpoint.port.complete(&mut self.batch, 0);
        }
        self.decide(door);
        self.deliver(door, false);
        self.remove_lost();
    }

    /// What was kept from `address` is dropped; with its next datagram it is a newcomer again.
    pub(super) fn turn_away(&mut self, door: EndpointId, address: &[u8]) {
        let Some(door) = self.slot_of(door).and_then(|slot| self.endpoints.get_mut(slot)) else { return };
        let Some(sources) = door.port.sources() else { return };
        for frame in sources.turn_away(address) {
            door.counters.received(frame.len());
            door.counters.dropped(DropReason::UnknownSender);
        }
    }

    /// Endpoint `slot` has gone: whoever sends from its peer's address is a newcomer.
    pub(super) fn forget_sender(&mut self, slot: Slot) {
        for endpoint in self.endpoints.all_mut() {
            if let Some(sources) = endpoint.port.sources() {
                sources.forget(slot);
            }
        }
    }
}
