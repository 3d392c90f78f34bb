//! What tshark says, as `expected.sh` wrote it down.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use overlane::error::Layer;

/// Every capture's name, with its packets.
pub(crate) fn all(captures: &Path) -> Vec<(String, Vec<Row>)> {
    let mut all: Vec<(String, Vec<Row>)> = fs::read_dir(captures)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".pcap") || name.ends_with(".pcapng"))
        .map(|name| {
            let table = captures.join("expected").join(format!("{name}.tsv"));
            let table = fs::read_to_string(table).expect("run tests/captures/expected.sh");
            let rows = rows(&table);
            (name, rows)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn rows(table: &str) -> Vec<Row> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| Row {
        fields: (header.iter().zip(line.split('\t')))
            .map(|(name, values)| {
                let values = values.split(',').filter(|v| !v.is_empty()).map(str::to_owned);
                ((*name).to_owned(), values.collect())
            })
            .collect(),
    };
    lines.map(row).collect()
}

/// One packet: for each field, its values in all the headers that have it, from the outside in.
pub(crate) struct Row {
    fields: HashMap<String, Vec<String>>,
}

impl Row {
    pub(crate) fn number(&self) -> u64 {
        self.get("frame.number", 0).unwrap().parse().unwrap()
    }

    fn get(&self, field: &str, at: usize) -> Option<&str> {
        self.fields[field].get(at).map(String::as_str)
    }

    /// Names of the headers outside of VXLAN, and of those inside; `None` where there is no VXLAN.
    fn headers(&self) -> Option<(Vec<&str>, Vec<&str>)> {
        let all: Vec<&str> =
            self.get("frame.protocols", 0)?.split(':').filter(|p| *p != "ethertype").collect();
        let at = all.iter().position(|p| *p == "vxlan")?;
        Some((all[..at].to_vec(), all[at + 1..].to_vec()))
    }

    /// The line that `inspect --json` should print for a whole frame in VXLAN.
    pub(crate) fn json(&self) -> Option<String> {
        let (outside, inside) = self.headers()?;
        inside.first()?;
        // How many headers of a kind come before the inner ones: where those are in a field's values.
        let before = |kind: &str| outside.iter().filter(|p| **p == kind).count();
        let ip = outside.iter().rev().find(|p| matches!(**p, "ip" | "ipv6"))?;
        let outer_ip = |field: &str| self.get(&format!("{ip}.{field}"), before(ip) - 1);

        let tags: Vec<&str> =
            inside[1..].iter().take_while(|p| matches!(**p, "vlan" | "ieee8021ad")).copied().collect();
        let vlan = match tags.first() {
            Some(&"vlan") => self.get("vlan.id", before("vlan")),
            Some(_) => self.get("ieee8021ad.id", before("ieee8021ad")),
            None => None,
        };
        let network = inside.get(1 + tags.len()).copied();
        let ethertype = match network {
            // A length, no EtherType.
            Some("llc") => None,
            _ if tags.is_empty() => self.get("eth.type", before("eth")),
            // tshark has the type behind a service tag in no field of its own: another tag follows.
            _ => self.get("vlan.etype", before("vlan") + tags.iter().filter(|t| **t == "vlan").count() - 1),
        };
        let (src, dst, protocol) = match network {
            Some("ip") => {
                let at = before("ip");
                (self.get("ip.src", at), self.get("ip.dst", at), self.get("ip.proto", at))
            }
            Some("ipv6") => {
                let at = before("ipv6");
                let mut next = self.get("ipv6.nxt", at);
                for header in &inside[2 + tags.len()..] {
                    let field = match *header {
                        "ah" => "ah.next_header".to_owned(),
                        other => format!("{other}.nxt"),
                    };
                    if self.fields.contains_key(&field) {
                        next = self.get(&field, before(header));
                    }
                }
                (self.get("ipv6.src", at), self.get("ipv6.dst", at), next)
            }
            _ => (None, None, None),
        };

        let flags = hex(self.get("vxlan.flags", 0)?);
        // tshark always shows the field; without the G flag it means nothing.
        let group = if flags & 0x8000 != 0 { self.get("vxlan.gbp", 0) } else { None };
        let text = |v: Option<&str>| v.map_or("null".into(), |v| format!("\"{v}\""));
        let number = |v: Option<&str>| v.unwrap_or("null").to_owned();
        Some(format!(
            "{{\"n\":{},\"outer_src\":{},\"outer_dst\":{},\"udp_src\":{},\"udp_dst\":{},\"vni\":{},\"flags\":{},\
             \"group\":{},\"inner_dst\":{},\"inner_src\":{},\"ethertype\":{},\"vlan\":{},\"src\":{},\"dst\":{},\
             \"proto\":{}}}",
            self.number(),
            text(outer_ip("src")),
            text(outer_ip("dst")),
            number(self.get("udp.srcport", before("udp") - 1)),
            number(self.get("udp.dstport", before("udp") - 1)),
            number(self.get("vxlan.vni", 0)),
            // tshark's flags are the first two octets.
            flags >> 8,
            number(group),
            text(self.get("eth.dst", before("eth"))),
            text(self.get("eth.src", before("eth"))),
            ethertype.map_or("null".into(), |t| hex(t).to_string()),
            number(vlan),
            text(src),
            text(dst),
            number(protocol),
        ))
    }

    /// The first outer header whose checksum tshark finds wrong.
    pub(crate) fn outer_checksum_is_wrong(&self) -> Option<Layer> {
        const BAD: &str = "0";
        let (outside, _) = self.headers()?;
        if outside.contains(&"ip") && self.get("ip.checksum.status", 0) == Some(BAD) {
            return Some(Layer::Ipv4);
        }
        (self.get("udp.checksum.status", 0) == Some(BAD)).then_some(Layer::Udp)
    }
}

fn hex(value: &str) -> u16 {
    u16::from_str_radix(value.trim_start_matches("0x"), 16).unwrap()
}
