//! Messages that the message crates do not know, or know too closely: laid out here.

use alloc::vec::Vec;

use netlink_packet_core::NetlinkSerializable;

/// A message type and the octets behind the netlink header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    kind: u16,
    payload: Vec<u8>,
}

impl Request {
    /// Begins with the fixed part of the message.
    pub(super) fn new(kind: u16, fixed: &[u8]) -> Request {
        Request { kind, payload: fixed.to_vec() }
    }

    /// Appends an attribute (`struct nlattr`, its value, padding to four octets).
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Request {
        push(&mut self.payload, kind, value);
        self
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.payload);
    }
}

/// Attributes one after the other, as the value of one that nests them.
pub(super) fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, value) in attributes {
        push(&mut out, *kind, value);
    }
    out
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    out.extend(len.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}
