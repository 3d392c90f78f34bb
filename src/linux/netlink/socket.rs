//! One request, its bounded replies.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::SocketAddr;

use super::super::error::Error;
use super::super::sys::{self, PollFds, errno};

/// What one `recv` may give; the kernel never sends more than 32 KiB in one piece.
const BUFFER_LEN: usize = 64 << 10;
/// Messages in one answer.
const MESSAGE_LIMIT: usize = 1 << 16;
/// A dump that changes under our eyes is read again this often.
const DUMP_ATTEMPTS: usize = 8;
/// The kernel answers within the request; this guards against a lost reply.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One message of an answer, not looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: u16,
    pub(super) payload: Vec<u8>,
}

impl NetlinkDeserializable for Reply {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Reply, Infallible> {
        Ok(Reply { kind: header.message_type, payload: payload.to_vec() })
    }
}

/// Type and value of each attribute, up to the first that is broken.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| {
        let value: &[u8] = nla.into_inner();
        let kind = value.get(2..4).and_then(|k| k.first_chunk()).map_or(0, |k| u16::from_ne_bytes(*k));
        // The two upper bits are flags: nested, and network byte order.
        (kind & 0x3fff, nla_value(value))
    })
}

fn nla_value(attribute: &[u8]) -> &[u8] {
    let len = attribute.first_chunk().map_or(0, |l| usize::from(u16::from_ne_bytes(*l)));
    attribute.get(4..len).unwrap_or(&[])
}

pub(super) struct Socket {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
    sequence: u32,
    poll: PollFds,
}

impl core::fmt::Debug for Socket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn open(protocol: isize) -> Result<Socket, Error> {
        let open = || {
            let mut socket = netlink_sys::Socket::new(protocol)?;
            socket.bind_auto()?;
            Ok(socket)
        };
        let socket = open().map_err(|e: io::Error| Error::new("open", "a netlink socket", e))?;
        Ok(Socket { socket, buffer: alloc::vec![0; BUFFER_LEN], sequence: 0, poll: PollFds::default() })
    }

    /// Sends one request and reads up to its acknowledgement.
    pub(super) fn ask(
        &mut self,
        operation: &'static str,
        object: &str,
        message: impl NetlinkSerializable,
        flags: u16,
    ) -> Result<Vec<Reply>, Error> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags)
            .map(|(replies, _)| replies)
            .map_err(|e| failure(operation, object, e))
    }

    /// Sends one dump request and reads up to its end; again if the tables changed meanwhile.
    pub(super) fn dump(
        &mut self,
        operation: &'static str,
        object: &str,
        message: impl NetlinkSerializable + Clone,
    ) -> Result<Vec<Reply>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP) {
                Ok((_, true)) => {}
                Ok((replies, false)) => return Ok(replies),
                Err(e) => return Err(failure(operation, object, e)),
            }
        }
        Err(failure(operation, object, io::Error::from_raw_os_error(errno::EINTR)))
    }

    /// The replies, and whether the kernel marked them as interrupted by a change.
    fn exchange(&mut self, message: impl NetlinkSerializable, flags: u16) -> io::Result<(Vec<Reply>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = alloc::vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;

        let mut replies = Vec::new();
        let mut interrupted = false;
        for _ in 0..MESSAGE_LIMIT {
            let len = self.receive()?;
            let mut rest = self.buffer.get(..len).unwrap_or(&[]);
            while !rest.is_empty() {
                let message = NetlinkMessage::<Reply>::deserialize(rest).map_err(|_| broken())?;
                let message_len = (message.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(message_len..).unwrap_or(&[]);
                // A late answer to an earlier request that gave up.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                    }
                    NetlinkPayload::Done(_) => return Ok((replies, interrupted)),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok((replies, interrupted)),
                    NetlinkPayload::Overrun(_) => return Err(io::Error::from_raw_os_error(errno::ENOBUFS)),
                    NetlinkPayload::InnerMessage(reply) if replies.len() < MESSAGE_LIMIT => {
                        replies.push(reply)
                    }
                    NetlinkPayload::InnerMessage(_) => {
                        return Err(io::Error::from_raw_os_error(errno::E2BIG));
                    }
                    _ => {}
                }
            }
        }
        Err(io::Error::from_raw_os_error(errno::E2BIG))
    }

    /// One piece from the kernel; what other processes send is passed over.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            self.poll.clear();
            self.poll.push(self.socket.as_fd(), false);
            if self.poll.wait(Some(TIMEOUT))? == 0 {
                return Err(io::Error::from_raw_os_error(errno::ETIMEDOUT));
            }
            let flags = sys::MSG_DONTWAIT | sys::MSG_TRUNC;
            match self.socket.recv_from(&mut self.buffer.as_mut_slice(), flags) {
                Ok((len, _)) if len > BUFFER_LEN => {
                    return Err(io::Error::from_raw_os_error(errno::EMSGSIZE));
                }
                Ok((len, from)) if from.port_number() == 0 => return Ok(len),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer cannot be read")
}

fn failure(operation: &'static str, object: &str, error: io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(errno::EPERM) => Some("CAP_NET_ADMIN is needed over this network namespace"),
        _ => None,
    };
    Error::new(operation, object, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stop_at_the_broken_one() {
        let bytes: Vec<u8> = [
            &8u16.to_ne_bytes()[..],
            &(0x8000 | 5u16).to_ne_bytes(),
            &[1, 2, 3, 4],
            &5u16.to_ne_bytes(),
            &6u16.to_ne_bytes(),
            &[9, 0, 0, 0],
            &99u16.to_ne_bytes(),
            &7u16.to_ne_bytes(),
        ]
        .concat();
        let got: Vec<_> = attributes(&bytes).collect();
        assert_eq!(got, [(5, &[1u8, 2, 3, 4][..]), (6, &[9][..])]);
        assert_eq!(attributes(&[]).count(), 0);
        assert_eq!(attributes(&[3, 0, 0]).count(), 0);
    }
}
