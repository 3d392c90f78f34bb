//! Writes pcapng files (draft-ietf-opsawg-pcapng), as Wireshark and tshark open them.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// One frame that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When the kernel saw it.
    pub time: SystemTime,
    /// Its length, of which `data` may be the beginning only. A segmentation-offload superframe is
    /// one frame of up to 64 KiB.
    pub wire_len: u32,
    /// Sent by the device, not received.
    pub outgoing: bool,
    /// From the destination MAC on.
    pub data: Vec<u8>,
}

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;

/// One section with Ethernet interfaces. Timestamps are in nanoseconds.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    interfaces: u32,
}

impl<W: Write> Writer<W> {
    /// Starts a file.
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4du32.to_le_bytes());
        body.extend(1u16.to_le_bytes());
        body.extend(0u16.to_le_bytes());
        // The section's length is not stated.
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, 4, b"overlane");
        end_of_options(&mut body);
        block(&mut out, 0x0a0d_0d0a, &body)?;
        Ok(Writer { out, interfaces: 0 })
    }

    /// Adds an interface; its number for [`Writer::frame`].
    pub fn interface(&mut self, name: &str, snap_len: u32) -> io::Result<u32> {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend(0u16.to_le_bytes());
        body.extend(snap_len.to_le_bytes());
        option(&mut body, 2, name.as_bytes());
        // if_tsresol: ten to the minus ninth.
        option(&mut body, 9, &[9]);
        end_of_options(&mut body);
        block(&mut self.out, 1, &body)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Adds a frame that was seen on an interface.
    pub fn frame(&mut self, interface: u32, frame: &Frame) -> io::Result<()> {
        if interface >= self.interfaces {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such interface in this file"));
        }
        let time = frame.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let mut body = Vec::with_capacity(frame.data.len() + 40);
        body.extend(interface.to_le_bytes());
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend((time as u32).to_le_bytes());
        body.extend((frame.data.len() as u32).to_le_bytes());
        body.extend(frame.wire_len.to_le_bytes());
        body.extend(&frame.data);
        pad(&mut body);
        // epb_flags: inbound or outbound.
        option(&mut body, 2, &(if frame.outgoing { 2u32 } else { 1 }).to_le_bytes());
        end_of_options(&mut body);
        block(&mut self.out, 6, &body)
    }

    /// Flushes, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let len = (body.len() as u32 + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len)?;
    out.write_all(body)?;
    out.write_all(&len)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Walks the blocks by their lengths, which stand at both ends.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let len = word(bytes, 4) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(bytes, len - 4) as usize, len);
            out.push((word(bytes, 0), bytes[8..len - 4].to_vec()));
            bytes = &bytes[len..];
        }
        out
    }

    #[test]
    fn blocks_are_well_formed() {
        let mut w = Writer::new(Vec::new()).unwrap();
        assert_eq!(w.interface("u0", 65_536).unwrap(), 0);
        assert_eq!(w.interface("u1", 65_536).unwrap(), 1);
        let time = UNIX_EPOCH + Duration::new(5, 7);
        let frame = Frame { time, wire_len: 1000, outgoing: true, data: vec![1, 2, 3, 4, 5] };
        w.frame(1, &frame).unwrap();
        assert!(w.frame(2, &frame).is_err());
        let blocks = blocks(&w.finish().unwrap());
        assert_eq!(blocks.iter().map(|b| b.0).collect::<Vec<_>>(), [0x0a0d_0d0a, 1, 1, 6]);
        let packet = &blocks[3].1;
        let nanoseconds = 5_000_000_007u64;
        assert_eq!(packet[0..4], 1u32.to_le_bytes());
        assert_eq!(packet[4..8], ((nanoseconds >> 32) as u32).to_le_bytes());
        assert_eq!(packet[8..12], (nanoseconds as u32).to_le_bytes());
        assert_eq!(packet[12..20], [5, 0, 0, 0, 0xe8, 3, 0, 0]);
        assert_eq!(packet[20..28], [1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(packet[28..40], [2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }
}
