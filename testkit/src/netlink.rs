//! Requests and replies over any netlink family, synchronous and bounded in time and size.

use core::convert::Infallible;
use core::time::Duration;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::SocketAddr;

const BUFFER_LEN: usize = 64 << 10;
const REPLY_LIMIT: usize = 1 << 16;
const DUMP_ATTEMPTS: usize = 8;

/// A message type and the octets behind the netlink header, to send or as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

impl NetlinkDeserializable for Raw {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Raw, Infallible> {
        Ok(Raw { kind: header.message_type, payload: payload.to_vec() })
    }
}

impl NetlinkSerializable for Raw {
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

/// Type and value of each attribute, up to the first that is broken.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| {
        let bytes: &[u8] = nla.into_inner();
        let half = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
        (half(2) & 0x3fff, bytes.get(4..usize::from(half(0))).unwrap_or(&[]))
    })
}

/// Appends one attribute.
pub(crate) fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend((4 + value.len() as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
}

impl Socket {
    pub(crate) fn open(protocol: isize) -> io::Result<Socket> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Socket { socket, sequence: 0 })
    }

    pub(crate) fn ask<M: NetlinkSerializable>(&mut self, message: M, flags: u16) -> io::Result<Vec<Raw>> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).map(|(replies, _)| replies)
    }

    pub(crate) fn dump<M: NetlinkSerializable + Clone>(&mut self, message: M) -> io::Result<Vec<Raw>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let (replies, false) = self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)? {
                return Ok(replies);
            }
        }
        Err(io::Error::other("the tables kept changing while they were read"))
    }

    fn exchange<M: NetlinkSerializable>(&mut self, message: M, flags: u16) -> io::Result<(Vec<Raw>, bool)> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;

        let mut buffer = vec![0; BUFFER_LEN];
        let (mut replies, mut interrupted) = (Vec::new(), false);
        while replies.len() < REPLY_LIMIT {
            let (len, from) = self.socket.recv_from(&mut buffer.as_mut_slice(), 0)?;
            if from.port_number() != 0 {
                continue;
            }
            let mut rest = &buffer[..len];
            while !rest.is_empty() {
                let message = NetlinkMessage::<Raw>::deserialize(rest).map_err(io::Error::other)?;
                let step = (message.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(step..).unwrap_or(&[]);
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok((replies, interrupted)),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok((replies, interrupted)),
                    NetlinkPayload::InnerMessage(reply) => replies.push(reply),
                    _ => {}
                }
            }
        }
        Err(io::Error::other("the kernel's answer has no end"))
    }
}
