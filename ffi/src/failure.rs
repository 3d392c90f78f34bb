//! Why a call was refused: the status that C gets, and the words for it.

use core::fmt::{self, Write};

use overlane::error::{AddrError, ConfigError, ControlError, FdbError, FloodError, FrameError};
use overlane::error::{PortError, RouteError, VniError, VtepError};

use crate::status::*;

/// What a call was refused for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// A status that says everything.
    Status(i32),
    /// A pointer argument that is NULL.
    Null(&'static str),
    /// One that is not aligned.
    Align(&'static str),
    /// A length or count that no memory can have.
    Length(&'static str),
    /// A structure of a size that is not known.
    Size { what: &'static str, size: u32, known: usize },
    /// A reserved field, or the tail of a structure, that is not zero.
    Reserved(&'static str),
    /// A number that means nothing where it stands.
    Value { what: &'static str, value: u64 },
    /// A VNI beyond 24 bits.
    VniRange(u32),
    /// No prefix.
    Prefix(AddrError),
    /// Settings that make no engine.
    Config(ConfigError),
    /// A command that the engine refused.
    Control(ControlError),
    /// A packet that does not lie where it should.
    Range { offset: usize, len: usize, headroom: usize, memory: usize },
}

/// A failure, and the packet of the batch that brought it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    pub(crate) packet: Option<usize>,
}

impl Failure {
    pub(crate) fn code(&self) -> i32 {
        match self {
            Failure::Status(status) => *status,
            Failure::Null(_) => OVERLANE_E_NULL,
            Failure::Align(_) => OVERLANE_E_ALIGN,
            Failure::Length(_) => OVERLANE_E_LENGTH,
            Failure::Size { .. } => OVERLANE_E_SIZE,
            Failure::Reserved(_) => OVERLANE_E_RESERVED,
            Failure::Value { .. } => OVERLANE_E_VALUE,
            Failure::VniRange(_) => OVERLANE_E_VNI_RANGE,
            Failure::Prefix(_) => OVERLANE_E_ROUTE_PREFIX,
            Failure::Config(e) => e.code(),
            Failure::Control(e) => e.code(),
            Failure::Range { .. } => OVERLANE_E_RANGE,
        }
    }

    /// The same, brought by one packet of a batch.
    pub(crate) fn of_packet(self, index: usize) -> Refusal {
        Refusal { failure: self, packet: Some(index) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => f.write_str(text(*status).to_str().unwrap_or_default()),
            Failure::Null(what) => write!(f, "{what} is NULL"),
            Failure::Align(what) => write!(f, "{what} is not aligned for its type"),
            Failure::Length(what) => write!(f, "{what}: so much memory cannot be"),
            Failure::Size { what, size, known } => {
                write!(f, "{what}: size {size} is not known; this version's is {known}")
            }
            Failure::Reserved(what) => {
                write!(f, "{what}: a reserved field, or something behind the known fields, is not zero")
            }
            Failure::Value { what, value } => write!(f, "{what}: {value} means nothing here"),
            Failure::VniRange(vni) => write!(f, "VNI {vni} exceeds 24 bits"),
            Failure::Prefix(e) => fmt::Display::fmt(e, f),
            Failure::Config(e) => fmt::Display::fmt(e, f),
            Failure::Control(e) => fmt::Display::fmt(e, f),
            Failure::Range { offset, len, headroom, memory } => write!(
                f,
                "offset {offset}, length {len} with {headroom} octets of headroom does not lie in {memory} octets"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packet {
            Some(index) => write!(f, "packet {index}: {}", self.failure),
            None => fmt::Display::fmt(&self.failure, f),
        }
    }
}

macro_rules! refusal {
    ($($error:ty => $how:expr),* $(,)?) => {$(
        impl From<$error> for Refusal {
            fn from(e: $error) -> Refusal {
                let how: fn($error) -> Failure = $how;
                Refusal { failure: how(e), packet: None }
            }
        }
    )*};
}

refusal! {
    Failure => |e| e,
    ConfigError => Failure::Config,
    ControlError => Failure::Control,
    VniError => |e| Failure::Control(e.into()),
    VtepError => |e| Failure::Control(e.into()),
    PortError => |e| Failure::Control(e.into()),
    FdbError => |e| Failure::Control(e.into()),
    RouteError => |e| Failure::Control(e.into()),
    FloodError => |e| Failure::Control(e.into()),
    FrameError => |e| {
        let FrameError::Range { start, end, buffer } = e else { return Failure::Status(OVERLANE_E_RANGE) };
        Failure::Range { offset: start, len: end.saturating_sub(start), headroom: 0, memory: buffer }
    },
}

/// The latest error's text, in memory of its own.
pub(crate) struct Text {
    bytes: [u8; 256],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; 256], len: 0 }
    }
}

impl Text {
    pub(crate) fn say(&mut self, what: impl fmt::Display) {
        self.len = 0;
        let _ = write!(self, "{what}");
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let cut = s.floor_char_boundary(room);
        let (to, from) = (&mut self.bytes[self.len..self.len + cut], &s.as_bytes()[..cut]);
        to.copy_from_slice(from);
        self.len += cut;
        if cut < s.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
