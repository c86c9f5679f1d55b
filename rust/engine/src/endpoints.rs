//! The attached endpoints, by slot: numbers that stay small and are used again.

use crate::endpoint::Endpoint;
use crate::switch::Slot;

/// Endpoints by slot.
#[derive(Default)]
pub(crate) struct Endpoints {
    slots: Vec<Option<Endpoint>>,
    free: Vec<Slot>,
}

impl Endpoints {
    pub(crate) fn get(&self, slot: Slot) -> Option<&Endpoint> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Endpoint> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.slots.iter().flatten()
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.slots.iter_mut().flatten()
    }

    /// A slot that nobody has.
    pub(crate) fn reserve(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as Slot - 1
        })
    }

    /// One that was reserved and is not needed after all.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// Into a slot that was reserved.
    pub(crate) fn put(&mut self, slot: Slot, endpoint: Endpoint) {
        self.slots[slot as usize] = Some(endpoint);
    }

    /// Out of its slot, which somebody else may have from now on.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<Endpoint> {
        let endpoint = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(endpoint)
    }
}
