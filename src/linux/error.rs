//! What the Linux backend says when the kernel refuses.

use alloc::string::String;
use core::fmt;
use std::io;

use super::sys::{self, errno};
use crate::error::DropReason;

/// A system call that failed: what was tried, on what, the errno, and what would help.
///
/// Displays as one line: `cannot open /dev/net/tun: EACCES; run as root, or ...`.
#[derive(Debug)]
pub struct Error {
    operation: &'static str,
    object: String,
    source: io::Error,
    hint: Option<&'static str>,
}

impl Error {
    pub(crate) fn new(operation: &'static str, object: impl Into<String>, source: io::Error) -> Error {
        Error { operation, object: object.into(), source, hint: None }
    }

    /// An argument that the kernel was not even asked about.
    pub(crate) fn refused(operation: &'static str, object: impl Into<String>, why: &'static str) -> Error {
        Error::new(operation, object, io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    pub(crate) fn hint(mut self, hint: Option<&'static str>) -> Error {
        self.hint = hint;
        self
    }

    /// Says what it was done to by a better name.
    pub(crate) fn about(mut self, object: impl Into<String>) -> Error {
        self.object = object.into();
        self
    }

    /// Says what would help against this errno.
    pub(crate) fn hint_if(self, number: i32, hint: &'static str) -> Error {
        match self.errno() == Some(number) {
            true => self.hint(Some(hint)),
            false => self,
        }
    }

    /// The verb: `open`, `bind`, `set the MTU of`, ...
    pub fn operation(&self) -> &str {
        self.operation
    }

    /// What it was done to: a path, a device, an address.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The kernel's errno, or `None` when the request was refused before it reached the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether it is about a device that was removed (`EBADFD` from a TAP): [`object`](Self::object) is its name. The others
    /// work on when it is taken off its port.
    pub fn is_removed_device(&self) -> bool {
        self.errno() == Some(errno::EBADFD)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: ", self.operation, self.object)?;
        match self.source.raw_os_error() {
            Some(errno) => match sys::errno_name(errno) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "errno {errno}")?,
            },
            None => write!(f, "{}", self.source)?,
        }
        match self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why the kernel did not take one packet this time. Not an [`Error`]: the packet is lost or waits,
/// it is counted, and the socket or device is as good as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// The queue is full (`EAGAIN`): try again when the descriptor is writable.
    WouldBlock,
    /// No memory or queue space below the socket (`ENOBUFS`, `ENOMEM`).
    NoBuffers,
    /// Longer than the path allows while fragmentation is forbidden, or than UDP or the device can
    /// carry (`EMSGSIZE`), or a frame over the MTU that no offload can segment.
    TooBig,
    /// No route or neighbour, or an earlier packet was answered by an ICMP error (`ECONNREFUSED`,
    /// `EHOSTUNREACH`, `ENETUNREACH`, ...), or a firewall said no (`EPERM`).
    Unreachable,
    /// The device is down (`EIO` from a TAP, `ENETDOWN`).
    Down,
    /// The device did not accept this packet (`EINVAL` from a TAP: shorter than an Ethernet header,
    /// or an offload request that does not fit the frame).
    Malformed,
}

impl Refused {
    /// The transient refusal that this errno stands for, or `None` for a real failure.
    pub(crate) fn from_errno(number: i32) -> Option<Refused> {
        match number {
            errno::EAGAIN => Some(Refused::WouldBlock),
            errno::ENOBUFS | errno::ENOMEM => Some(Refused::NoBuffers),
            errno::EMSGSIZE => Some(Refused::TooBig),
            errno::ECONNREFUSED
            | errno::EHOSTUNREACH
            | errno::EHOSTDOWN
            | errno::ENETUNREACH
            | errno::ENOPROTOOPT
            | errno::EPROTO
            | errno::ETIMEDOUT
            | errno::ENONET
            | errno::EOPNOTSUPP
            | errno::EPERM
            | errno::EACCES => Some(Refused::Unreachable),
            errno::ENETDOWN => Some(Refused::Down),
            _ => None,
        }
    }
}

impl From<Refused> for DropReason {
    /// The reason under which an engine counts the loss.
    fn from(refused: Refused) -> DropReason {
        match refused {
            Refused::WouldBlock | Refused::NoBuffers => DropReason::TxQueueFull,
            Refused::TooBig => DropReason::MtuExceeded,
            Refused::Unreachable | Refused::Down | Refused::Malformed => DropReason::TxFailed,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::WouldBlock => "queue full",
            Refused::NoBuffers => "no buffers",
            Refused::TooBig => "too big",
            Refused::Unreachable => "unreachable",
            Refused::Down => "device down",
            Refused::Malformed => "refused by the device",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn names_operation_object_errno_and_help() {
        let e = Error::new("open", "/dev/net/tun", io::Error::from_raw_os_error(errno::EACCES))
            .hint(Some("run as root, or give the user access to the device, or pass an open fd"));
        assert_eq!(
            e.to_string(),
            "cannot open /dev/net/tun: EACCES; run as root, or give the user access to the device, or pass an open fd"
        );
        assert_eq!((e.operation(), e.object(), e.errno()), ("open", "/dev/net/tun", Some(errno::EACCES)));
        assert!(core::error::Error::source(&e).is_some());
    }

    #[test]
    fn unknown_errno_and_refused_argument() {
        let e = Error::new("bind", "127.0.0.1:4789", io::Error::from_raw_os_error(4000));
        assert_eq!(e.to_string(), "cannot bind 127.0.0.1:4789: errno 4000");
        let e = Error::refused("create TAP device", "a/b", "a device name has no slash");
        assert_eq!(e.to_string(), "cannot create TAP device a/b: a device name has no slash");
        assert_eq!(e.errno(), None);
    }

    #[test]
    fn transient_errnos() {
        let cases = [
            (errno::EAGAIN, Some(Refused::WouldBlock)),
            (errno::ENOBUFS, Some(Refused::NoBuffers)),
            (errno::EMSGSIZE, Some(Refused::TooBig)),
            (errno::ECONNREFUSED, Some(Refused::Unreachable)),
            (errno::ENETUNREACH, Some(Refused::Unreachable)),
            (errno::EPERM, Some(Refused::Unreachable)),
            // ICMP destination unreachable, codes 5 and 8: anybody on the way can send them.
            (errno::EOPNOTSUPP, Some(Refused::Unreachable)),
            (errno::ENONET, Some(Refused::Unreachable)),
            (errno::ENETDOWN, Some(Refused::Down)),
            (errno::EBADF, None),
            (errno::EINVAL, None),
        ];
        for (errno, want) in cases {
            assert_eq!(Refused::from_errno(errno), want, "errno {errno}");
            if let Some(refused) = want {
                assert!((48..96).contains(&DropReason::from(refused).number()));
            }
        }
    }
}
