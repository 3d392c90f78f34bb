//! What is said about each packet, and about all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use overlane::error::ParseError;
use overlane::wire::arp;
use overlane::wire::ethernet::ethertype;
use overlane::wire::inner::{Inner, Network};
use overlane::wire::ipv4::protocol;
use overlane::wire::outer::Outer;

use crate::decode::Decoded;

/// The lowest EtherType; below it, the field is an IEEE 802.3 length (IEEE 802.3, 3.2.6).
const ETHERTYPE_MIN: u16 = 1536;

/// Writes packet number `n` as one line of JSON, or nothing if it goes to no VXLAN port.
pub(crate) fn json(out: &mut dyn Write, n: u64, decoded: &Decoded) -> io::Result<()> {
    match decoded {
        Decoded::Frame(outer, inner, _) => {
            let ethernet = &inner.ethernet;
            let (src, dst) = inner.addrs().unzip();
            writeln!(
                out,
                "{{\"n\":{n},\"outer_src\":{},\"outer_dst\":{},\"udp_src\":{},\"udp_dst\":{},\"vni\":{},\
                 \"flags\":{},\"group\":{},\"inner_dst\":\"{}\",\"inner_src\":\"{}\",\"ethertype\":{},\
                 \"vlan\":{},\"src\":{},\"dst\":{},\"proto\":{}}}",
                text(outer.src),
                text(outer.dst),
                outer.udp_src,
                outer.udp_dst,
                outer.vxlan.vni,
                outer.vxlan.flags,
                number(outer.vxlan.group.map(|group| group.id)),
                ethernet.dst,
                ethernet.src,
                number(Some(ethernet.ethertype).filter(|kind| *kind >= ETHERTYPE_MIN)),
                number(ethernet.vlan.map(|tag| tag.vid)),
                text(src),
                text(dst),
                number(inner.protocol()),
            )
        }
        Decoded::Drop(e) => writeln!(
            out,
            "{{\"n\":{n},\"drop\":\"{}\",\"layer\":\"{}\",\"offset\":{}}}",
            e.reason(),
            e.layer(),
            e.offset()
        ),
        Decoded::Other | Decoded::UnknownLink => Ok(()),
    }
}

/// No text here has a character that JSON would need escaped.
fn text(addr: Option<IpAddr>) -> String {
    addr.map_or("null".into(), |addr| format!("\"{addr}\""))
}

fn number(n: Option<impl Display>) -> String {
    n.map_or("null".into(), |n| n.to_string())
}

/// Writes packet number `n` as one line of text, or nothing if it goes to no VXLAN port.
pub(crate) fn line(out: &mut dyn Write, n: u64, decoded: &Decoded) -> io::Result<()> {
    match decoded {
        Decoded::Frame(outer, inner, _) => {
            write!(out, "{n:>6}  {}", tunnel(outer))?;
            writeln!(out, "  {}", frame(inner))
        }
        Decoded::Drop(e) => writeln!(out, "{n:>6}  drop {e}"),
        Decoded::Other | Decoded::UnknownLink => Ok(()),
    }
}

fn tunnel(outer: &Outer) -> String {
    let end = |addr: Option<IpAddr>, port| match addr {
        Some(addr) => SocketAddr::new(addr, port).to_string(),
        None => format!("?:{port}"),
    };
    let mut s = format!(
        "{} > {}  vni {} flags {:#04x}",
        end(outer.src, outer.udp_src),
        end(outer.dst, outer.udp_dst),
        outer.vxlan.vni,
        outer.vxlan.flags
    );
    if let Some(group) = outer.vxlan.group {
        s += &format!(" group {}", group.id);
        s += if group.dont_learn { " dont-learn" } else { "" };
        s += if group.applied { " applied" } else { "" };
    }
    s
}

fn frame(inner: &Inner) -> String {
    let ethernet = &inner.ethernet;
    let mut s = format!("{} > {}", ethernet.src, ethernet.dst);
    if let Some(tag) = ethernet.vlan {
        s += &format!(" vlan {}", tag.vid);
    }
    s += &match ethernet.ethertype {
        ethertype::IPV4 => " ipv4".into(),
        ethertype::IPV6 => " ipv6".into(),
        ethertype::ARP => " arp".into(),
        length @ ..ETHERTYPE_MIN => format!(" 802.3 length {length}"),
        other => format!(" {other:#06x}"),
    };
    if let Network::Arp(arp) = inner.network {
        s += &match arp.op {
            arp::REQUEST => format!("  who-has {} tell {}", arp.target_ip, arp.sender_ip),
            arp::REPLY => format!("  {} is-at {}", arp.sender_ip, arp.sender_mac),
            op => format!("  operation {op}"),
        };
    }
    if let (Some((src, dst)), Some(protocol)) = (inner.addrs(), inner.protocol()) {
        s += &match inner.ports {
            Some((from, to)) => format!("  {} > {}", SocketAddr::new(src, from), SocketAddr::new(dst, to)),
            None => format!("  {src} > {dst}"),
        };
        s += &match protocol {
            protocol::ICMP => " icmp".into(),
            protocol::TCP => " tcp".into(),
            protocol::UDP => " udp".into(),
            protocol::DCCP => " dccp".into(),
            protocol::ICMPV6 => " icmpv6".into(),
            protocol::SCTP => " sctp".into(),
            protocol::UDP_LITE => " udp-lite".into(),
            other => format!(" protocol {other}"),
        };
        s += if inner.is_fragment() { " fragment" } else { "" };
    }
    s
}

/// Counts over the whole file.
#[derive(Default)]
pub(crate) struct Totals {
    /// Packets in the file.
    pub(crate) packets: u64,
    /// Packets on links that nothing here reads, by link type.
    pub(crate) unknown_links: BTreeMap<u16, u64>,
    frames: u64,
    vnis: BTreeSet<u32>,
    drops: BTreeMap<(&'static str, &'static str), u64>,
    others: u64,
}

impl Totals {
    /// Counts one packet of the link type `link`.
    pub(crate) fn count(&mut self, link: u16, decoded: &Decoded) {
        self.packets += 1;
        match decoded {
            Decoded::Frame(outer, ..) => {
                self.frames += 1;
                self.vnis.insert(outer.vxlan.vni.get());
            }
            Decoded::Drop(e) => *self.drops.entry(kind(e)).or_default() += 1,
            Decoded::Other => self.others += 1,
            Decoded::UnknownLink => *self.unknown_links.entry(link).or_default() += 1,
        }
    }

    /// Writes the totals.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let dropped: u64 = self.drops.values().sum();
        let unread: u64 = self.unknown_links.values().sum();
        writeln!(
            out,
            "total: {} packets, {} in VXLAN (VNIs: {}), {dropped} dropped, {} other",
            self.packets,
            self.frames,
            self.vnis.len(),
            self.others + unread
        )?;
        for ((reason, layer), count) in &self.drops {
            writeln!(out, "total: {count} dropped for {reason} at {layer}")?;
        }
        Ok(())
    }
}

fn kind(e: &ParseError) -> (&'static str, &'static str) {
    (e.reason().name(), e.layer().name())
}
