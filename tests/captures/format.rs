//! Writers for capture files: the same frames in every format and on every link type that is read.

/// Byte order of a file or section.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, n: u16) -> [u8; 2] {
        match self {
            Order::Little => n.to_le_bytes(),
            Order::Big => n.to_be_bytes(),
        }
    }

    fn u32(self, n: u32) -> [u8; 4] {
        match self {
            Order::Little => n.to_le_bytes(),
            Order::Big => n.to_be_bytes(),
        }
    }
}

/// A pcap file. `magic` as a number in the file's own order.
pub(crate) fn pcap(order: Order, magic: u32, link: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = order.u32(magic).to_vec();
    file.extend([order.u16(2), order.u16(4)].concat());
    file.extend([0, 0, 65535, u32::from(link)].map(|n| order.u32(n)).concat());
    for packet in packets {
        let len = packet.len() as u32;
        file.extend([1, 2, len, len].map(|n| order.u32(n)).concat());
        if magic == 0xa1b2_cd34 {
            file.extend([0xee; 8]); // interface index, protocol, packet type
        }
        file.extend(packet);
    }
    file
}

/// A pcapng block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Block<'a> {
    Section,
    Interface {
        link: u16,
        snaplen: u32,
    },
    Enhanced {
        interface: u32,
        bytes: &'a [u8],
    },
    /// `len` is the length on the wire.
    Simple {
        bytes: &'a [u8],
        len: usize,
    },
    Obsolete {
        interface: u16,
        bytes: &'a [u8],
    },
    NameResolution,
    Statistics,
    Unknown,
}

/// Blocks of one byte order, one after the other.
pub(crate) fn pcapng(order: Order, blocks: &[Block<'_>]) -> Vec<u8> {
    blocks.iter().flat_map(|block| block.bytes(order)).collect()
}

impl Block<'_> {
    fn bytes(&self, order: Order) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|w| order.u32(*w)).collect::<Vec<u8>>();
        // An option with a comment, and the end of options.
        let options = [&order.u16(1)[..], &order.u16(4), b"text", &[0; 4]].concat();
        let len = |bytes: &[u8]| bytes.len() as u32;
        let (kind, mut body) = match *self {
            Block::Section => {
                let version = [order.u16(1), order.u16(0)].concat();
                (0x0a0d_0d0a, [words(&[0x1a2b_3c4d]), version, vec![0xff; 8], options].concat())
            }
            Block::Interface { link, snaplen } => {
                (1, [order.u16(link).to_vec(), vec![0; 2], words(&[snaplen]), options].concat())
            }
            Block::Enhanced { interface, bytes } => {
                let head = words(&[interface, 1, 2, len(bytes), len(bytes)]);
                (6, [head, padded(bytes), options].concat())
            }
            Block::Simple { bytes, len } => (3, [words(&[len as u32]), padded(bytes)].concat()),
            Block::Obsolete { interface, bytes } => {
                let head = [order.u16(interface), order.u16(0xffff)].concat();
                (2, [head, words(&[1, 2, len(bytes), len(bytes)]), padded(bytes), options].concat())
            }
            // 192.0.2.1, whose name is not text: nobody looks at it.
            Block::NameResolution => {
                let name = [192, 0, 2, 1, 0xff, 0xfe, 0xfd, 0];
                (4, [&order.u16(1)[..], &order.u16(8), &name, &[0; 4]].concat())
            }
            Block::Statistics => (5, words(&[0, 1, 2])),
            Block::Unknown => (0x0bad_beef, vec![0xaa; 8]),
        };
        let total = body.len() as u32 + 12;
        body.extend(order.u32(total));
        [words(&[kind, total]), body].concat()
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0xdd);
    padded
}

/// What precedes the IP packet on a link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkType {
    /// The number as given.
    Raw(u16),
    /// Address families of IPv4 and IPv6, in this byte order.
    Null(u32, u32, Order),
    Loop,
    CookedV1,
    CookedV2,
}

impl LinkType {
    pub(crate) const ALL: &[LinkType] = &[
        LinkType::Raw(101),
        LinkType::Raw(12),
        LinkType::Raw(14),
        LinkType::Raw(228),
        LinkType::Raw(229),
        LinkType::Null(2, 10, Order::Little),
        LinkType::Null(2, 24, Order::Big),
        LinkType::Null(2, 28, Order::Little),
        LinkType::Null(2, 30, Order::Big),
        LinkType::Loop,
        LinkType::CookedV1,
        LinkType::CookedV2,
    ];

    pub(crate) fn number(self) -> u16 {
        match self {
            LinkType::Raw(number) => number,
            LinkType::Null(..) => 0,
            LinkType::Loop => 108,
            LinkType::CookedV1 => 113,
            LinkType::CookedV2 => 276,
        }
    }

    /// Octets in front of the EtherType's payload.
    fn header_len(self) -> usize {
        match self {
            LinkType::Raw(_) => 0,
            LinkType::Null(..) | LinkType::Loop => 4,
            LinkType::CookedV1 => 16,
            LinkType::CookedV2 => 20,
        }
    }

    /// The packet of an Ethernet frame as this link would have it, or `None` if it could not.
    pub(crate) fn wrap(self, frame: &[u8]) -> Option<Vec<u8>> {
        let (kind, packet) = (u16::from_be_bytes([frame[12], frame[13]]), &frame[14..]);
        let six = match (kind, self) {
            (0x0800, LinkType::Raw(number)) if number != 229 => false,
            (0x86dd, LinkType::Raw(number)) if number != 228 => true,
            (0x0800, LinkType::Null(..) | LinkType::Loop) => false,
            (0x86dd, LinkType::Null(..) | LinkType::Loop) => true,
            // Only a version 1 header can be followed by more tags than are seen through: the other
            // has no Ethernet of which that could be said.
            (_, LinkType::CookedV1) => kind == 0x86dd,
            (0x0800 | 0x86dd, LinkType::CookedV2) => kind == 0x86dd,
            (0x8100, LinkType::CookedV2) if frame[16..18] != [0x81, 0] || frame[20..22] != [0x81, 0] => false,
            _ => return None,
        };
        let header = match self {
            LinkType::Raw(_) => vec![],
            LinkType::Null(four, six_, order) => order.u32(if six { six_ } else { four }).to_vec(),
            LinkType::Loop => vec![0, 0, 0, if six { 24 } else { 2 }],
            LinkType::CookedV1 => {
                [&[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 1, 1, 0, 0], &kind.to_be_bytes()[..]].concat()
            }
            LinkType::CookedV2 => {
                let rest = [0, 0, 0, 0, 0, 3, 0, 1, 4, 6, 2, 0, 0, 0, 1, 1, 0, 0];
                [&kind.to_be_bytes()[..], &rest].concat()
            }
        };
        assert_eq!(header.len(), self.header_len());
        Some([&header, packet].concat())
    }

    /// The line about a frame, with the offset where it has one as it is on this link.
    pub(crate) fn shift(self, line: &str) -> String {
        match line.split_once("\"offset\":") {
            Some((start, offset)) => {
                let offset: usize = offset.trim_end_matches('}').parse().unwrap();
                format!("{start}\"offset\":{}}}", offset + self.header_len() - 14)
            }
            None => line.to_owned(),
        }
    }
}
