//! The peers of a datagram transport: mostly a datagram comes from one that is known, and is answered at once.

use libc::c_int;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::address::Address;

/// So many are remembered, by what their addresses hash to.
const SLOTS: usize = 64;

/// Python's objects for their addresses. They can't be changed, so all datagrams of a peer share one.
#[derive(Default)]
pub struct Peers {
    /// Empty, or of `SLOTS`.
    slots: Vec<Option<Box<Peer>>>,
    /// The slot of whom a datagram has just come from.
    last: usize,
}

struct Peer {
    address: Address,
    object: Py<PyAny>,
}

impl Peers {
    /// As the `socket` module gives it.
    pub fn object_of<'py>(
        &mut self,
        py: Python<'py>,
        address: Address,
    ) -> PyResult<Bound<'py, PyAny>> {
        if !address.is_of_the_internet() {
            return address.to_python(py);
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        self.last = address.hash() % SLOTS;
        let slot = &mut self.slots[self.last];
        if let Some(peer) = slot
            && peer.address == address
        {
            return Ok(peer.object.bind(py).clone());
        }
        let object = address.to_python(py)?;
        // What this drops is a tuple of a string and numbers: no code runs.
        *slot = Some(Box::new(Peer {
            address,
            object: object.clone().unbind(),
        }));
        Ok(object)
    }

    /// None: it isn't given by number.
    pub fn address_of(&self, family: c_int, object: &Bound<'_, PyAny>) -> Option<Address> {
        match self.slots.get(self.last) {
            // No other object, as this one is kept.
            Some(Some(peer)) if peer.object.is(object) => Some(peer.address.clone()),
            _ => Address::numeric(family, object),
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut peers = self.slots.iter().flatten();
        peers.try_for_each(|peer| visit.call(&peer.object))
    }
}
