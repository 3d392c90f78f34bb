//! What is in the captures decodes as tshark says, and what `examples/inspect` makes of files that
//! are not as they should be.
//!
//! The example's own modules are compiled in and called as `main` calls them, so nothing depends on
//! where and when the example's binary was built.

// As in the example: a program has std.
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

#[path = "../examples/inspect/capture.rs"]
mod capture;
#[path = "../examples/inspect/cli.rs"]
mod cli;
#[path = "../examples/inspect/decode.rs"]
mod decode;
#[path = "captures/format.rs"]
mod format;
#[path = "../examples/inspect/report.rs"]
mod report;
#[path = "captures/tshark.rs"]
mod tshark;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use capture::Capture;
use format::{Block, LinkType, Order};
use overlane::error::{DropReason, Layer};
use overlane::wire::outer::{self, OuterPolicy, Shape};
use proptest::prelude::*;

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

/// A run of the program: exit code, stdout, stderr.
fn inspect(args: &[&str]) -> (u8, String, String) {
    inspect_stdin(&[], args)
}

/// A run with these octets on stdin.
fn inspect_stdin(mut stdin: &[u8], args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["inspect"].iter().chain(args).map(OsString::from);
    let code = cli::run(args, &mut stdin, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A run over a file with these octets.
fn inspect_bytes(name: &str, bytes: &[u8], args: &[&str]) -> (u8, String, String) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    let mut all = vec![path.to_str().unwrap()];
    all.extend(args);
    inspect(&all)
}

/// The packets of a file of ours, which is known to be good.
fn packets(path: &Path) -> Vec<(u16, Vec<u8>)> {
    let mut capture = Capture::open(File::open(path).unwrap()).unwrap_or_else(|e| panic!("{e}"));
    let mut packets = Vec::new();
    while let Some(packet) = capture.next().unwrap_or_else(|e| panic!("{e}")) {
        packets.push((packet.link, packet.bytes.to_vec()));
    }
    packets
}

/// Packets of which tshark and overlane say different things, and why. `made.txt` describes those of
/// `made.pcap`.
#[rustfmt::skip]
const DIFFERENCES: &[(&str, u64, Option<&str>)] = &[
    // tshark 4.0 takes the zero in IPv4 and UDP lengths of a superframe above 64 KiB for damage;
    // newer ones read on (the addresses here are those that tcpdump's own test expects).
    ("tcpdump-bigtcp-ipv4-vxlan-ipv4.pcap", 1, Some(r#"{"n":1,"outer_src":"10.25.132.11","outer_dst":"10.25.132.13","udp_src":47044,"udp_dst":4789,"vni":5001,"flags":8,"group":null,"inner_dst":"fe:36:a5:67:e0:ac","inner_src":"76:bd:91:4a:21:f9","ethertype":2048,"vlan":null,"src":"192.168.1.2","dst":"192.168.1.1","proto":6}"#)),
    ("tcpdump-bigtcp-ipv4-vxlan-ipv6.pcap", 1, Some(r#"{"n":1,"outer_src":"10.25.132.11","outer_dst":"10.25.132.13","udp_src":60879,"udp_dst":4789,"vni":5001,"flags":8,"group":null,"inner_dst":"fe:36:a5:67:e0:ac","inner_src":"76:bd:91:4a:21:f9","ethertype":34525,"vlan":null,"src":"fd00::2","dst":"fd00::1","proto":6}"#)),
    ("tcpdump-bigtcp-ipv6-vxlan-ipv4.pcap", 1, Some(r#"{"n":1,"outer_src":"2604:1380:4091:ce00::d","outer_dst":"2604:1380:4091:ce00::b","udp_src":52238,"udp_dst":4789,"vni":5001,"flags":8,"group":null,"inner_dst":"76:bd:91:4a:21:f9","inner_src":"fe:36:a5:67:e0:ac","ethertype":2048,"vlan":null,"src":"192.168.1.1","dst":"192.168.1.2","proto":6}"#)),
    ("tcpdump-bigtcp-ipv6-vxlan-ipv6.pcap", 1, Some(r#"{"n":1,"outer_src":"2604:1380:4091:ce00::d","outer_dst":"2604:1380:4091:ce00::b","udp_src":37059,"udp_dst":4789,"vni":5001,"flags":8,"group":null,"inner_dst":"76:bd:91:4a:21:f9","inner_src":"fe:36:a5:67:e0:ac","ethertype":34525,"vlan":null,"src":"fd00::1","dst":"fd00::2","proto":6}"#)),
    // Not VXLAN, but to port 8472, and cut off by the capture's length limit.
    ("tcpdump-esp_truncated.pcap", 1, Some(r#"{"n":1,"drop":"outer_fragment","layer":"ipv4","offset":20}"#)),
    // tshark takes the source port for VXLAN's as well; a VTEP receives on the destination port.
    ("made.pcap", 30, None),
    // tshark shows what is there although the I flag says that there is no VNI.
    ("made.pcap", 33, Some(r#"{"n":33,"drop":"no_vni_flag","layer":"vxlan","offset":42}"#)),
    // Where a header is cut off, contradicts itself, or goes beyond what overlane sees through,
    // tshark shows the part that it has and marks it as malformed.
    ("made.pcap", 34, Some(r#"{"n":34,"drop":"truncated","layer":"vxlan","offset":42}"#)),
    ("made.pcap", 35, Some(r#"{"n":35,"drop":"truncated","layer":"inner_ethernet","offset":50}"#)),
    ("made.pcap", 36, Some(r#"{"n":36,"drop":"truncated","layer":"inner_ethernet","offset":62}"#)),
    ("made.pcap", 37, Some(r#"{"n":37,"drop":"too_many_tags","layer":"inner_ethernet","offset":70}"#)),
    ("made.pcap", 38, Some(r#"{"n":38,"drop":"bad_header_length","layer":"inner_ipv4","offset":64}"#)),
    ("made.pcap", 39, Some(r#"{"n":39,"drop":"truncated","layer":"inner_ipv4","offset":66}"#)),
    ("made.pcap", 40, Some(r#"{"n":40,"drop":"bad_version","layer":"inner_ipv4","offset":64}"#)),
    ("made.pcap", 41, Some(r#"{"n":41,"drop":"bad_arp","layer":"inner_arp","offset":64}"#)),
    ("made.pcap", 42, Some(r#"{"n":42,"drop":"outer_fragment","layer":"ipv4","offset":20}"#)),
    ("made.pcap", 43, Some(r#"{"n":43,"drop":"bad_length","layer":"udp","offset":38}"#)),
    ("made.pcap", 44, Some(r#"{"n":44,"drop":"truncated","layer":"udp","offset":38}"#)),
    ("made.pcap", 45, Some(r#"{"n":45,"drop":"truncated","layer":"ipv4","offset":16}"#)),
    ("made.pcap", 46, Some(r#"{"n":46,"drop":"too_many_tags","layer":"ethernet","offset":20}"#)),
];

#[test]
fn captures_decode_as_tshark_says() {
    let (mut frames, mut differences) = (0, 0);
    for (name, rows) in tshark::all(&captures()) {
        let (code, out, err) = inspect(&[captures().join(&name).to_str().unwrap(), "--json"]);
        let mut expected = String::new();
        for row in &rows {
            let line = match DIFFERENCES.iter().find(|(file, n, _)| *file == name && *n == row.number()) {
                Some((.., line)) => {
                    differences += 1;
                    let line = line.map(str::to_owned);
                    assert_ne!(row.json(), line, "{name} {}: no difference any more", row.number());
                    line
                }
                None => {
                    let line = row.json();
                    frames += usize::from(line.is_some());
                    line
                }
            };
            expected.extend(line.map(|line| line + "\n"));
        }
        assert_eq!(out, expected, "{name}");
        let unread = name == "tcpdump-mpls-ldp-hello.pcap"; // a PPP link
        assert_eq!(code, u8::from(unread), "{name}: {err}");
        assert!(err.contains(&format!("total: {} packets", rows.len())), "{name}: {err}");
    }
    assert_eq!(differences, DIFFERENCES.len(), "a difference about a packet that is not there");
    assert!(frames > 160, "only {frames} frames were compared");
}

/// The parsers themselves, with checksums verified: right and wrong ones are told apart as by tshark.
#[test]
fn checksums_verify_as_tshark_says() {
    let policy = OuterPolicy { ports: [4789, 8472, 0, 0], ..OuterPolicy::default() };
    let (mut good, mut bad) = (0, 0);
    for (name, rows) in tshark::all(&captures()) {
        for (row, (_, packet)) in rows.iter().zip(packets(&captures().join(&name))) {
            if DIFFERENCES.iter().any(|(file, n, _)| *file == name && *n == row.number())
                || row.json().is_none()
            {
                continue;
            }
            let parsed = outer::parse(Shape::Ethernet, &packet, &policy);
            match row.outer_checksum_is_wrong() {
                None => {
                    assert!(parsed.is_ok(), "{name} {}: {parsed:?}", row.number());
                    good += 1;
                }
                Some(layer) => {
                    let e = parsed.expect_err("a wrong checksum");
                    assert_eq!((e.reason(), e.layer()), (DropReason::BadChecksum, layer), "{name}");
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 100 && bad > 0, "{good} good, {bad} bad");
}

/// The frames of `made.pcap`, and what is said of them: the measure for every other way to store them.
fn made() -> (Vec<Vec<u8>>, String) {
    let path = captures().join("made.pcap");
    let (code, out, _) = inspect(&[path.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0);
    (packets(&path).into_iter().map(|(_, bytes)| bytes).collect(), out)
}

fn enhanced(interface: u32, frames: &[Vec<u8>]) -> impl Iterator<Item = Block<'_>> {
    frames.iter().map(move |bytes| Block::Enhanced { interface, bytes })
}

#[test]
fn file_formats_make_no_difference() {
    let (frames, expected) = made();
    let mut files = Vec::new();
    for order in [Order::Little, Order::Big] {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34] {
            files.push(format::pcap(order, magic, 1, &frames));
        }
        // Each packet block in turn, with blocks between them that are nobody's business.
        let mut blocks =
            vec![Block::Section, Block::NameResolution, Block::Interface { link: 1, snaplen: 0 }];
        for (i, frame) in frames.iter().enumerate() {
            blocks.push(match i % 3 {
                0 => Block::Enhanced { interface: 0, bytes: frame },
                1 => Block::Simple { bytes: frame, len: frame.len() },
                _ => Block::Obsolete { interface: 0, bytes: frame },
            });
            blocks.push(if i % 2 == 0 { Block::Unknown } else { Block::Statistics });
        }
        files.push(format::pcapng(order, &blocks));
    }
    // Two sections of different byte orders, the second with interfaces of its own.
    let (first, second) = frames.split_at(20);
    let mut one = vec![Block::Section, Block::Interface { link: 1, snaplen: 0 }];
    one.extend(enhanced(0, first));
    let mut two = vec![
        Block::Section,
        Block::Interface { link: 9, snaplen: 0 },
        Block::Interface { link: 1, snaplen: 0 },
    ];
    two.extend(enhanced(1, second));
    files.push([format::pcapng(Order::Big, &one), format::pcapng(Order::Little, &two)].concat());

    for (i, file) in files.iter().enumerate() {
        let (code, out, err) = inspect_bytes("formats", file, &["--json"]);
        assert_eq!((code, out.as_str()), (0, expected.as_str()), "file {i}: {err}");
    }
}

#[test]
fn link_types_make_no_difference() {
    let (frames, expected) = made();
    for link in LinkType::ALL {
        let wrapped: Vec<Option<Vec<u8>>> = frames.iter().map(|frame| link.wrap(frame)).collect();
        // What cannot be said on this link is left out of both; a packet that nobody cares for is
        // put in its place, to keep the numbers.
        let stored: Vec<Vec<u8>> = wrapped.iter().map(|p| p.clone().unwrap_or_default()).collect();
        let expected: String = (expected.lines())
            .filter(|line| wrapped[number_of(line) - 1].is_some())
            .map(|line| format!("{}\n", link.shift(line)))
            .collect();
        let file = format::pcap(Order::Little, 0xa1b2_c3d4, link.number(), &stored);
        let (code, out, err) = inspect_bytes("links", &file, &["--json"]);
        assert_eq!((code, out), (0, expected), "{link:?}: {err}");
    }
}

fn number_of(line: &str) -> usize {
    line.trim_start_matches("{\"n\":").split(',').next().unwrap().parse().unwrap()
}

/// A capture's length limit cuts packets, and the file tells how long they were: the headers that
/// are there are read, and where one is cut the drop says which.
#[test]
fn a_cut_packet_is_read_as_far_as_its_headers_go() {
    let frame = &made().0[0];
    const PORT_END: usize = 14 + 20 + 4;
    const INNER: usize = 14 + 20 + 8 + 8;
    let whole = format::pcap(Order::Little, 0xa1b2_c3d4, 1, std::slice::from_ref(frame));
    let (_, read, _) = inspect_bytes("whole", &whole, &["--json"]);
    assert!(read.contains("\"vni\""), "{read}");
    for len in 1..frame.len() {
        let interface = Block::Interface { link: 1, snaplen: len as u32 };
        // A simple packet tells its length on the wire; the interface tells the limit.
        let simple = Block::Simple { bytes: &frame[..len], len: frame.len() };
        let file = format::pcapng(Order::Big, &[Block::Section, interface, simple]);
        let (code, out, err) = inspect_bytes("snapped", &file, &["--json"]);
        let cut_at = |layer| format!("{{\"n\":1,\"drop\":\"truncated\",\"layer\":\"{layer}\",\"offset\":");
        let expected = match len {
            0..PORT_END => String::new(),
            // Nothing is read of the UDP checksum, the last two octets of the header.
            PORT_END..40 => cut_at("udp"),
            40..INNER => cut_at("vxlan"),
            // The frame has a VLAN tag.
            INNER..68 => cut_at("inner_ethernet"),
            _ if out == read => read.clone(),
            _ => cut_at("inner_ipv4"),
        };
        assert!(
            code == 0 && out.starts_with(&expected) && out.is_empty() == expected.is_empty(),
            "{len} octets: {out}{err}"
        );
        // Everything is read from where the last header ends: IPv4 and eight octets of ICMP or UDP.
        assert!(len < INNER + 18 + 20 + 8 || out == read, "{len} octets: {out}");
    }
}

/// A file that says nothing of a longer packet holds a short one: the drop says where.
#[test]
fn short_packets_are_truncated_drops() {
    let frame = &made().0[0];
    const PORT_END: usize = 14 + 20 + 4;
    for len in 0..frame.len() {
        let cut = frame[..len].to_vec();
        let interface = Block::Interface { link: 1, snaplen: len as u32 };
        let files = [
            format::pcap(Order::Little, 0xa1b2_c3d4, 1, std::slice::from_ref(&cut)),
            format::pcapng(
                Order::Little,
                &[Block::Section, interface, Block::Enhanced { interface: 0, bytes: &cut }],
            ),
        ];
        let expected = match len {
            ..PORT_END => "",
            _ => "{\"n\":1,\"drop\":\"truncated\",\"layer\":\"ipv4\",\"offset\":16}\n",
        };
        for file in files {
            let (code, out, err) = inspect_bytes("cut", &file, &["--json"]);
            assert_eq!((code, out.as_str()), (0, expected), "{len} octets: {err}");
        }
    }
}

/// A file that ends anywhere: what is whole is reported; an end inside a record is said and is exit 1.
#[test]
fn truncated_files_give_what_could_be_read() {
    let (frames, expected) = made();
    let mut blocks = vec![Block::Section, Block::Interface { link: 1, snaplen: 0 }, Block::NameResolution];
    blocks.extend(enhanced(0, &frames[..2]));
    let pcap = format::pcap(Order::Little, 0xa1b2_c3d4, 1, &frames[..2]);
    for (file, whole) in [(pcap, 1 + 2), (format::pcapng(Order::Little, &blocks), 1 + 2 + 2)] {
        let mut ends = 0;
        for len in 0..=file.len() {
            let (code, out, err) = inspect_bytes("ends", &file[..len], &["--json"]);
            assert!(expected.starts_with(&out), "{len} octets: {out}");
            if code == 0 {
                ends += 1;
            } else {
                assert_eq!(code, 1);
                assert!(err.contains("damaged at octet"), "{err}");
                assert!(err.contains(&format!("({} packets before", out.lines().count())), "{err}");
            }
        }
        assert_eq!(ends, whole, "only between records, and after the header, is an end no damage");
    }
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let (frames, _) = made();
    let section = Block::Section;
    let interface = Block::Interface { link: 1, snaplen: 0 };
    let good = Block::Enhanced { interface: 0, bytes: &frames[0] };
    let start = format::pcapng(Order::Little, &[section, interface, good]);
    let one = format::pcap(Order::Little, 0xa1b2_c3d4, 1, &frames[..1]);
    let then = |tail: &[u8]| [start.as_slice(), tail].concat();
    let le = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let cases: Vec<(&str, Vec<u8>, usize)> = vec![
        ("the file is empty", vec![], 0),
        ("not a pcap or pcapng file", b"GET / HTTP/1.1\r\n".to_vec(), 0),
        ("not a pcap or pcapng file", vec![0xa1, 0xb2], 0),
        ("compressed by gzip; unpack it first", vec![0x1f, 0x8b, 8, 0, 0, 0], 0),
        ("compressed by zstd; unpack it first", vec![0x28, 0xb5, 0x2f, 0xfd], 0),
        ("a packet of 4294967295 octets", [one.as_slice(), &le(&[0, 0, u32::MAX, u32::MAX])].concat(), 1),
        ("a block of type 0x6 and 30 octets", then(&le(&[6, 30])), 1),
        ("a block of type 0x6 and 28 octets", then(&le(&[6, 28])), 1),
        ("a block of type 0x63 and 0 octets", then(&le(&[99, 0])), 1),
        ("a block of 4294967292 octets", then(&le(&[6, u32::MAX - 3])), 1),
        ("the file ends inside a block of type 0x63", then(&le(&[99, u32::MAX - 3, 0])), 1),
        ("a packet of interface 7, in a section with 1", then(&le(&[6, 32, 7, 0, 0, 0, 0, 32])), 1),
        ("a packet of 5 octets in a block with 4", then(&le(&[6, 36, 0, 0, 0, 5, 5, 0, 36])), 1),
        ("a block of 32 octets that says 36 at its end", then(&le(&[6, 32, 0, 0, 0, 0, 0, 36])), 1),
        (
            "a packet of interface 0, in a section with 0",
            then(&format::pcapng(Order::Big, &[section, good])),
            1,
        ),
        ("a section header without a byte order", then(&le(&[0x0a0d_0d0a, 28, 0x0102_0304, 1, 0, 0, 28])), 1),
        (
            "pcapng version 2, which nobody has defined",
            then(&le(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 2, 0, 0, 28])),
            1,
        ),
    ];
    for (what, file, before) in cases {
        let (code, out, err) = inspect_bytes("damaged", &file, &["--json"]);
        assert_eq!((code, out.lines().count()), (1, before), "{what}: {err}");
        assert!(err.contains(what), "{what}: {err}");
    }
}

#[test]
fn arguments() {
    let made = captures().join("made.pcap");
    let made = made.to_str().unwrap();
    let directory = captures();
    let directory = directory.to_str().unwrap();
    // What is wrong is named, with what to do about it.
    for (args, says) in [
        (&[][..], "Usage: inspect"),
        (&["--colour", made], "--colour"),
        (&["/no/such/file.pcap"], "cannot open /no/such/file.pcap: No such file"),
        (&[directory], "is a directory"),
        (&[made, "--port", "0"], "1..=65535"),
        (&[made, "--port", "65536"], "1..=65535"),
        (&[made, "--port", "vxlan"], "--port"),
    ] {
        let (code, out, err) = inspect(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
    let (code, out, err) = inspect(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("--port <N>") && out.contains("4789 and 8472"), "{out}");

    let numbers = |args: &[&str]| -> Vec<usize> {
        let (code, out, _) = inspect(args);
        assert_eq!(code, 0);
        out.lines().map(number_of).collect()
    };
    assert_eq!(numbers(&[made, "--json", "--port", "8472"]), [24]);
    assert_eq!(
        numbers(&[made, "--json", "--port", "8472", "--port", "4790", "--port", "5000"]),
        [24, 30, 31]
    );
    // More ports than an engine takes at once.
    let six = ["1", "2", "3", "4", "5", "8472"].map(|port| ["--port", port]).concat();
    assert_eq!(numbers(&[&[made, "--json"], six.as_slice()].concat()), [24]);
}

#[test]
fn one_line_of_text_for_each_packet() {
    let (_, json) = made();
    let (code, out, err) = inspect(&[captures().join("made.pcap").to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (lines, totals): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| !line.starts_with("total:"));
    assert_eq!(lines.len(), json.lines().count());
    for (n, line) in [
        (
            0,
            "192.0.2.1:51000 > 192.0.2.2:4789  vni 42 flags 0x08  02:00:00:00:00:0a > 02:00:00:00:00:0b vlan 42 ipv4  10.244.1.2:40000 > 10.244.2.3:53 udp",
        ),
        (
            4,
            "192.0.2.1:51000 > 192.0.2.2:4789  vni 42 flags 0x08  02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp  who-has 10.244.1.1 tell 10.244.1.2",
        ),
        (
            6,
            "[2001:db8::1]:51000 > [2001:db8::2]:4789  vni 42 flags 0x08  02:00:00:00:00:0a > 02:00:00:00:00:0b ipv6  [fd00:244::2]:40000 > [fd00:244::3]:80 tcp",
        ),
        (
            9,
            "192.0.2.1:51000 > 192.0.2.2:4789  vni 42 flags 0x08  02:00:00:00:00:0a > 02:00:00:00:00:0b ipv4  10.244.1.2 > 10.244.2.3 udp fragment",
        ),
        (
            16,
            "192.0.2.1:51000 > 192.0.2.2:4789  vni 42 flags 0x08  02:00:00:00:00:0a > 01:80:c2:00:00:00 802.3 length 38",
        ),
        (
            17,
            "192.0.2.1:51000 > 192.0.2.2:4789  vni 42 flags 0x08  02:00:00:00:00:0a > 01:80:c2:00:00:0e 0x88cc",
        ),
        (
            18,
            "192.0.2.1:51000 > 192.0.2.2:4789  vni 42 flags 0x88 group 65535 dont-learn applied  02:00:00:00:00:0a > 02:00:00:00:00:0b ipv4  10.244.1.2:40000 > 10.244.2.3:53 udp",
        ),
        (29, "drop no_vni_flag at vxlan, offset 42"),
    ] {
        assert_eq!(lines[n].trim_start().split_once("  ").unwrap().1, line);
    }
    assert_eq!(totals[0], "total: 46 packets, 29 in VXLAN (VNIs: 3), 14 dropped, 3 other");
    assert!(totals.contains(&"total: 2 dropped for truncated at inner_ethernet"), "{totals:?}");
}

/// A writer that fails with `kind` once it has taken `room` octets.
struct Closed {
    room: usize,
    kind: io::ErrorKind,
}

impl Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(self.kind.into());
        }
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_dash_is_stdin() {
    let path = captures().join("made.pcap");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(inspect_stdin(&bytes, &["-"]), inspect(&[path.to_str().unwrap()]));
    let (code, _, err) = inspect_stdin(&bytes[..bytes.len() - 1], &["-"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("inspect: stdin: damaged at octet "), "{err}");
}

#[test]
fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
    let args = || ["inspect".into(), captures().join("made.pcap").into_os_string()];
    for (kind, exit, says) in
        [(io::ErrorKind::BrokenPipe, 0, ""), (io::ErrorKind::StorageFull, 1, "inspect: cannot write: ")]
    {
        for room in [0, 1, 500] {
            let mut err = Vec::new();
            let code = cli::run(args(), &mut io::empty(), &mut Closed { room, kind }, &mut err);
            let err = String::from_utf8(err).unwrap();
            assert_eq!(code, exit, "{err}");
            assert!(if says.is_empty() { err.is_empty() } else { err.starts_with(says) }, "{err}");
        }
    }
}

proptest! {
    /// Any octets behind any start of a file, and any octets as a packet of any link type: no panic,
    /// no exit code but those documented, and a drop lies within the packet.
    #[test]
    fn any_octets(
        start in prop::sample::select(vec![
            vec![],
            format::pcap(Order::Little, 0xa1b2_c3d4, 1, &[]),
            format::pcapng(Order::Big, &[Block::Section, Block::Interface { link: 1, snaplen: 0 }]),
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        link in prop::sample::select(LinkType::ALL.to_vec()),
        at in 0..46usize,
        changes in prop::collection::vec((0..200usize, any::<u8>()), 0..4),
    ) {
        let mut capture_end = 0;
        if let Ok(mut capture) = Capture::open([start, bytes.clone()].concat().as_slice()) {
            while let Ok(Some(_)) = capture.next() {
                capture_end += 1;
            }
        }
        prop_assert!(capture_end <= bytes.len() / 16);

        let mut packet = link.wrap(&made_frame(at)).unwrap_or(bytes);
        for (at, octet) in changes {
            if let Some(o) = packet.get_mut(at) {
                *o = octet;
            }
        }
        match decode::decode(link.number(), &packet, packet.len() as u32, &[4789, 8472]) {
            decode::Decoded::Drop(e) => {
                prop_assert!(e.offset() <= packet.len());
                prop_assert!(e.reason() != DropReason::NotTunnelPort);
                prop_assert!(e.layer() != Layer::Arp);
            }
            decode::Decoded::Frame(outer, ..) => prop_assert!([4789, 8472].contains(&outer.udp_dst)),
            decode::Decoded::Other => {}
            decode::Decoded::UnknownLink => prop_assert!(false, "a link type that is read"),
        }
    }
}

fn made_frame(at: usize) -> Vec<u8> {
    use std::sync::OnceLock;
    static FRAMES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FRAMES.get_or_init(|| made().0)[at].clone()
}
