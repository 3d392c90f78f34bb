//! Packets out of capture files: pcap (both byte orders, micro- and nanoseconds) and pcapng (several
//! sections and interfaces; enhanced, simple and obsolete packet blocks; every other block skipped).
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Read by hand, since the point of the
//! reader is what it says about a damaged file: everything before the damage, then where and what.

use std::fmt;
use std::io::{self, Read};

/// Longest packet or pcapng block believed. A larger length is damage: no link has such packets.
const MAX_RECORD: u32 = 16 << 20;

/// One captured packet.
pub(crate) struct Packet<'a> {
    /// The link type of the interface (LINKTYPE_ value).
    pub(crate) link: u16,
    /// What was captured of it.
    pub(crate) bytes: &'a [u8],
    /// Octets that the packet had on the wire; more than `bytes` where the capture cut it.
    pub(crate) wire_len: u32,
}

/// Why reading stopped before the end.
pub(crate) enum CaptureError {
    /// The file could not be read.
    Io(io::Error),
    /// The file is not what it should be.
    Damaged {
        /// Octets from the start of the file to the record that is wrong.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureError::Io(e) => write!(f, "cannot be read: {e}"),
            CaptureError::Damaged { offset, what } => write!(f, "damaged at octet {offset}: {what}"),
        }
    }
}

impl From<io::Error> for CaptureError {
    fn from(e: io::Error) -> CaptureError {
        CaptureError::Io(e)
    }
}

type Result<T> = std::result::Result<T, CaptureError>;

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, b: &[u8], at: usize) -> u16 {
        let bytes = [b[at], b[at + 1]];
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, b: &[u8], at: usize) -> u32 {
        let bytes = [b[at], b[at + 1], b[at + 2], b[at + 3]];
        match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }
}

enum Format {
    Pcap { order: Order, link: u16, header_len: usize },
    Pcapng { order: Order, interfaces: Vec<Interface> },
}

struct Interface {
    link: u16,
    /// Octets captured of each packet at most; 0 is "all".
    snaplen: u32,
}

/// A capture file, read from the front.
pub(crate) struct Capture<R> {
    input: Input<R>,
    format: Format,
    record: Vec<u8>,
}

/// Counts what was read, for the offsets in errors.
struct Input<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    /// Reads `len` octets, or what is left, behind those in `to`. Memory grows with what is there,
    /// not with what a damaged length promises.
    fn append(&mut self, to: &mut Vec<u8>, len: usize) -> Result<()> {
        self.offset += self.inner.by_ref().take(len as u64).read_to_end(to)? as u64;
        Ok(())
    }

    fn skip(&mut self, len: u64) -> Result<u64> {
        let skipped = io::copy(&mut self.inner.by_ref().take(len), &mut io::sink())?;
        self.offset += skipped;
        Ok(skipped)
    }
}

fn damaged<T>(offset: u64, what: impl Into<String>) -> Result<T> {
    Err(CaptureError::Damaged { offset, what: what.into() })
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

impl<R: Read> Capture<R> {
    /// Reads the file's header.
    pub(crate) fn open(inner: R) -> Result<Capture<R>> {
        let mut input = Input { inner, offset: 0 };
        let mut record = Vec::new();
        input.append(&mut record, 4)?;
        let Some(magic) = record.first_chunk::<4>().copied() else {
            return damaged(
                0,
                if record.is_empty() { "the file is empty" } else { "not a pcap or pcapng file" },
            );
        };
        let (order, header_len) = match u32::from_be_bytes(magic) {
            SECTION_HEADER => {
                let mut capture = Capture {
                    input,
                    format: Format::Pcapng { order: Order::Little, interfaces: Vec::new() },
                    record,
                };
                capture.section_header(0)?;
                return Ok(capture);
            }
            // Micro- and nanoseconds differ in nothing that is looked at here.
            0xa1b2_c3d4 | 0xa1b2_3c4d => (Order::Big, 16),
            0xd4c3_b2a1 | 0x4d3c_b2a1 => (Order::Little, 16),
            // Kuznetzov's "modified" pcap has eight more octets in front of each packet.
            0xa1b2_cd34 => (Order::Big, 24),
            0x34cd_b2a1 => (Order::Little, 24),
            m if m >> 16 == 0x1f8b => return damaged(0, "compressed by gzip; unpack it first"),
            0x28b5_2ffd => return damaged(0, "compressed by zstd; unpack it first"),
            _ => return damaged(0, "not a pcap or pcapng file"),
        };
        input.append(&mut record, 20)?;
        if record.len() < 24 {
            return damaged(0, "the file ends inside the pcap header");
        }
        // The upper half tells of frame check sequences, which count as trailing octets here.
        let link = order.u32(&record, 20) as u16;
        Ok(Capture { input, format: Format::Pcap { order, link, header_len }, record })
    }

    /// The next packet, or `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Packet<'_>>> {
        match self.format {
            Format::Pcap { order, link, header_len } => {
                let start = self.input.offset;
                self.record.clear();
                self.input.append(&mut self.record, header_len)?;
                if self.record.is_empty() {
                    return Ok(None);
                }
                if self.record.len() < header_len {
                    return damaged(start, "the file ends inside a packet's header");
                }
                let (len, wire_len) = (order.u32(&self.record, 8), order.u32(&self.record, 12));
                if len > MAX_RECORD {
                    return damaged(start, format!("a packet of {len} octets"));
                }
                self.record.clear();
                self.input.append(&mut self.record, len as usize)?;
                if self.record.len() < len as usize {
                    let have = self.record.len();
                    return damaged(start, format!("the file ends after {have} of a packet's {len} octets"));
                }
                Ok(Some(Packet { link, bytes: &self.record, wire_len }))
            }
            Format::Pcapng { .. } => self.next_block(),
        }
    }

    /// Skips to the next block with a packet.
    fn next_block(&mut self) -> Result<Option<Packet<'_>>> {
        loop {
            let start = self.input.offset;
            self.record.clear();
            self.input.append(&mut self.record, 4)?;
            if self.record.is_empty() {
                return Ok(None);
            }
            if self.record.len() == 4 && self.record[..] == SECTION_HEADER.to_be_bytes() {
                self.section_header(start)?;
                continue;
            }
            self.input.append(&mut self.record, 4)?;
            let Format::Pcapng { order, .. } = self.format else { return Ok(None) };
            if self.record.len() < 8 {
                return damaged(start, "the file ends inside a block's header");
            }
            let (kind, len) = (order.u32(&self.record, 0), order.u32(&self.record, 4));
            // Type, length, the fixed part of the block, and the length once more.
            let fixed = match kind {
                INTERFACE => 8,
                OBSOLETE_PACKET | ENHANCED_PACKET => 20,
                SIMPLE_PACKET => 4,
                _ => 0,
            };
            if len % 4 != 0 || len < 12 + fixed {
                return damaged(start, format!("a block of type {kind:#x} and {len} octets"));
            }
            if fixed == 0 {
                let rest = u64::from(len) - 8;
                if self.input.skip(rest)? < rest {
                    return damaged(start, format!("the file ends inside a block of type {kind:#x}"));
                }
                continue;
            }
            self.block_body(start, order, len)?;
            match kind {
                INTERFACE => {
                    let interface =
                        Interface { link: order.u16(&self.record, 8), snaplen: order.u32(&self.record, 12) };
                    if let Format::Pcapng { interfaces, .. } = &mut self.format {
                        interfaces.push(interface);
                    }
                }
                _ => return self.packet(start, order, kind).map(Some),
            }
        }
    }

    /// Reads the rest of the block of `len` octets whose first eight are in the record, and takes
    /// its trailing length off.
    fn block_body(&mut self, start: u64, order: Order, len: u32) -> Result<()> {
        if len > MAX_RECORD {
            return damaged(start, format!("a block of {len} octets"));
        }
        let have = self.record.len();
        self.input.append(&mut self.record, len as usize - have)?;
        if self.record.len() < len as usize {
            let have = self.record.len();
            return damaged(start, format!("the file ends after {have} of a block's {len} octets"));
        }
        let body = len as usize - 4;
        let again = order.u32(&self.record, body);
        if again != len {
            return damaged(start, format!("a block of {len} octets that says {again} at its end"));
        }
        self.record.truncate(body);
        Ok(())
    }

    /// A section header, whose first four octets are in the record: byte order anew, no interfaces.
    fn section_header(&mut self, start: u64) -> Result<()> {
        self.input.append(&mut self.record, 8)?;
        if self.record.len() < 12 {
            return damaged(start, "the file ends inside a section header");
        }
        let order = match [self.record[8], self.record[9], self.record[10], self.record[11]] {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            _ => return damaged(start, "a section header without a byte order"),
        };
        let len = order.u32(&self.record, 4);
        if len % 4 != 0 || len < 28 {
            return damaged(start, format!("a section header of {len} octets"));
        }
        self.block_body(start, order, len)?;
        let major = order.u16(&self.record, 12);
        if major != 1 {
            return damaged(start, format!("pcapng version {major}, which nobody has defined"));
        }
        self.format = Format::Pcapng { order, interfaces: Vec::new() };
        Ok(())
    }

    /// The packet of the block in the record.
    fn packet(&self, start: u64, order: Order, kind: u32) -> Result<Packet<'_>> {
        let block = &self.record;
        let (interface, len, wire_len, at) = match kind {
            ENHANCED_PACKET => (order.u32(block, 8), order.u32(block, 20), order.u32(block, 24), 28),
            OBSOLETE_PACKET => {
                (u32::from(order.u16(block, 8)), order.u32(block, 20), order.u32(block, 24), 28)
            }
            // A simple packet is the first interface's, and says only how long it was on the wire.
            _ => (0, order.u32(block, 8), order.u32(block, 8), 12),
        };
        let Format::Pcapng { interfaces, .. } = &self.format else {
            return damaged(start, "a block outside of pcapng");
        };
        let Some(on) = interfaces.get(interface as usize) else {
            let have = interfaces.len();
            return damaged(start, format!("a packet of interface {interface}, in a section with {have}"));
        };
        let room = &block[at..];
        let len = match (kind, on.snaplen) {
            (SIMPLE_PACKET, 0) => (len as usize).min(room.len()),
            (SIMPLE_PACKET, snaplen) => (len.min(snaplen) as usize).min(room.len()),
            _ => len as usize,
        };
        match room.get(..len) {
            Some(bytes) => Ok(Packet { link: on.link, bytes, wire_len }),
            None => damaged(start, format!("a packet of {len} octets in a block with {}", room.len())),
        }
    }
}
