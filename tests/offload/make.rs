//! Frames from a description, with checksums made the naive way.

use overlane::linux::offload::{MAX_HEADER_LEN, Superframe, VirtioNetHeader};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Check {
    /// As RFC 9293 and RFC 768 say.
    Right,
    /// The pseudo-header sum alone, as a stack leaves it for the device.
    Unfinished,
    /// Neither of these.
    Wrong,
    /// UDP: none.
    Zero,
}

/// A TCP segment or UDP datagram in an Ethernet frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Make {
    pub tcp: bool,
    pub v6: bool,
    pub macs: [u8; 12],
    /// VLAN tag control information; two tags have an 802.1ad one outside.
    pub tags: Vec<u16>,
    /// IPv4 options, in whole words.
    pub ip_options: Vec<u8>,
    /// IPv6 extension headers: their number and their length in octets, a multiple of 8.
    pub extensions: Vec<(u8, usize)>,
    pub tos: u8,
    pub label: u32,
    pub id: u16,
    /// The three flag bits of IPv4 and the fragment offset.
    pub fragment: u16,
    pub ttl: u8,
    pub host: u8,
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    pub check: Check,
    /// The merger is told that it stands alone.
    pub alone: bool,
}

pub const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4];

impl Make {
    pub fn tcp() -> Make {
        Make {
            tcp: true,
            v6: false,
            macs: [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
            tags: vec![],
            ip_options: vec![],
            extensions: vec![],
            tos: 0,
            label: 7,
            id: 100,
            fragment: 0x4000,
            ttl: 64,
            host: 1,
            ports: (40_000, 80),
            seq: 1_000_000,
            ack: 77,
            flags: ACK,
            window: 500,
            urgent: 0,
            options: TIMESTAMPS.to_vec(),
            payload: octets(100),
            check: Check::Right,
            alone: false,
        }
    }

    pub fn udp() -> Make {
        Make { tcp: false, options: vec![], ..Make::tcp() }
    }

    pub fn network(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    pub fn transport(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|e| e.1).sum();
        self.network() + if self.v6 { 40 + extensions } else { 20 + self.ip_options.len() }
    }

    pub fn header_len(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.options.len() } else { 8 }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut f = self.macs.to_vec();
        for (n, tag) in self.tags.iter().enumerate() {
            let outer = n == 0 && self.tags.len() == 2;
            f.extend(if outer { [0x88, 0xa8] } else { [0x81, 0x00] });
            f.extend(tag.to_be_bytes());
        }
        let transport_len = self.header_len() - self.transport() + self.payload.len();
        let upper = if self.tcp { 6 } else { 17 };
        let mut addresses = Vec::new();
        if self.v6 {
            f.extend([0x86, 0xdd]);
            f.extend((6 << 28 | u32::from(self.tos) << 20 | self.label).to_be_bytes());
            f.extend(((self.transport() - self.network() - 40 + transport_len) as u16).to_be_bytes());
            f.extend([self.extensions.first().map_or(upper, |e| e.0), self.ttl]);
            addresses.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.host]);
            addresses.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
            f.extend(&addresses);
            for (n, (number, len)) in self.extensions.iter().enumerate() {
                let units = if *number == 51 { len / 4 - 2 } else { len / 8 - 1 };
                f.extend([self.extensions.get(n + 1).map_or(upper, |e| e.0), units as u8]);
                f.extend(vec![0; len - 2]);
            }
        } else {
            f.extend([0x08, 0x00]);
            let header = 20 + self.ip_options.len();
            let mut h = vec![0x40 | (header / 4) as u8, self.tos];
            h.extend(((header + transport_len) as u16).to_be_bytes());
            h.extend(self.id.to_be_bytes());
            h.extend(self.fragment.to_be_bytes());
            h.extend([self.ttl, upper, 0, 0]);
            addresses.extend([10, 0, 0, self.host, 10, 0, 1, 2]);
            h.extend(&addresses);
            h.extend(&self.ip_options);
            let check = checksum(&[&h]);
            h[10..12].copy_from_slice(&check.to_be_bytes());
            f.extend(h);
        }
        let mut t = Vec::new();
        t.extend(self.ports.0.to_be_bytes());
        t.extend(self.ports.1.to_be_bytes());
        let at = if self.tcp {
            t.extend(self.seq.to_be_bytes());
            t.extend(self.ack.to_be_bytes());
            t.extend([(((20 + self.options.len()) / 4) << 4) as u8, self.flags]);
            t.extend(self.window.to_be_bytes());
            t.extend([0, 0]);
            t.extend(self.urgent.to_be_bytes());
            t.extend(&self.options);
            16
        } else {
            t.extend((transport_len as u16).to_be_bytes());
            t.extend([0, 0]);
            6
        };
        t.extend(&self.payload);
        let len = (transport_len as u32).to_be_bytes();
        let pseudo = [&addresses, &len[..], &[0, upper]].concat();
        let unfinished = !checksum(&[&pseudo]);
        let right = match checksum(&[&pseudo, &t]) {
            0 if !self.tcp => 0xffff,
            right => right,
        };
        let check = match self.check {
            Check::Right => right,
            Check::Unfinished => unfinished,
            // Seldom one of them is what an unfinished one would be.
            Check::Wrong if right ^ 0x0110 == unfinished => right ^ 0x0220,
            Check::Wrong => right ^ 0x0110,
            Check::Zero => 0,
        };
        t[at..at + 2].copy_from_slice(&check.to_be_bytes());
        f.extend(t);
        f
    }

    /// The virtio header with which a kernel hands this over as a superframe.
    pub fn virtio(&self, gso_size: u16) -> VirtioNetHeader {
        VirtioNetHeader {
            flags: VirtioNetHeader::NEEDS_CSUM,
            gso_type: match (self.tcp, self.v6) {
                (true, false) => VirtioNetHeader::GSO_TCPV4,
                (true, true) => VirtioNetHeader::GSO_TCPV6,
                (false, _) => VirtioNetHeader::GSO_UDP_L4,
            },
            hdr_len: self.header_len() as u16,
            gso_size,
            csum_start: self.transport() as u16,
            csum_offset: if self.tcp { 16 } else { 6 },
        }
    }
}

/// The segments that overlane makes of a frame from a TAP: the frame itself, its checksum finished,
/// if it is no superframe.
pub fn segments(header: &VirtioNetHeader, frame: &[u8]) -> Vec<Vec<u8>> {
    let Some(superframe) = Superframe::parse(header, frame).unwrap() else {
        let mut frame = frame.to_vec();
        if let Some((at, check)) = header.checksum(&frame) {
            frame[at..at + 2].copy_from_slice(&check);
        }
        return vec![frame];
    };
    let segment = |n| {
        let mut out = [0x5a; MAX_HEADER_LEN];
        let len = superframe.write_header(n, frame, &mut out).unwrap();
        assert_eq!(len, superframe.header_len());
        assert!(out[len..].iter().all(|octet| *octet == 0x5a));
        [&out[..len], &frame[superframe.payload(n)]].concat()
    };
    let all: Vec<_> = (0..superframe.segments()).map(segment).collect();
    assert!(all[..all.len() - 1].iter().all(|s| s.len() == superframe.segment_len()));
    assert!(all.last().unwrap().len() <= superframe.segment_len());
    assert_eq!(superframe.write_header(all.len(), frame, &mut [0; MAX_HEADER_LEN]), None);
    assert!(superframe.payload(all.len()).is_empty());
    all
}

/// Octets that differ from one another and from position to position.
pub fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// RFC 1071, a word at a time; each part but the last has an even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for word in part.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}
