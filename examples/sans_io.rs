//! A host in a few lines. The engine opens no socket and reads no clock: frames go in, verdicts come
//! out, and the host carries the bytes.
//!
//! `cargo run --example sans_io`

use overlane::addr::Vni;
use overlane::engine::{Capacity, Command, Engine, EngineConfig, Frame, HEADROOM, Heap, Verdict};
use overlane::table::{Seed, port::PortConfig, vni::VniConfig, vtep::VtepConfig};
use overlane::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A node at 192.0.2.1 with one VNI, a local port in it, and one other node.
    let (now, vni, peer) = (Instant::ZERO, Vni::new(42)?, "192.0.2.2".parse()?);
    let config = EngineConfig::new("192.0.2.1".parse()?, Seed::fixed(1)); // a host draws 16 random octets
    let mut engine = Engine::<Heap>::with_capacity(config, &Capacity::default())?;
    engine.apply(now, &Command::AddVni { vni, config: VniConfig::default() })?;
    let port = engine.apply(now, &Command::AddPort(PortConfig::new(vni)))?.port().ok_or("no port")?;
    let vtep = engine.apply(now, &Command::AddVtep(VtepConfig::new(peer, 4789)))?.vtep().ok_or("no VTEP")?;
    engine.apply(now, &Command::AddFlood { vni, vtep })?;

    // A datagram from the other node: the payload of UDP port 4789. Its VXLAN header goes, who sent
    // it is learned, and the frame is for everybody: the host writes it to the local port.
    let mut datagram = *b"\x08\0\0\0\0\0\x2a\0\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x0b\x88\xb5anybody there?";
    let len = datagram.len();
    println!("{}\n", engine.explain_decap(now, Some(peer), 0, &datagram));
    let mut frames = [Frame::new(&mut datagram, 0..len)?.with_source(peer)];
    engine.decap(now, &mut frames);
    assert_eq!(frames[0].verdict(), Some(Verdict::Flood(vni)));
    assert!(frames[0].bytes().ends_with(b"anybody there?"));

    // The answer from the port, with room in front: the engine writes the header there and says which
    // VTEP the host is to send the bytes to.
    let answer = b"\x02\0\0\0\0\x0b\x02\0\0\0\0\x0a\x88\xb5here";
    let mut buffer = [0; 2048];
    buffer[HEADROOM..][..answer.len()].copy_from_slice(answer);
    println!("{}\n", engine.explain_encap(now, port, answer, 0)?);
    let mut frames = [Frame::new(&mut buffer, HEADROOM..HEADROOM + answer.len())?];
    engine.encap(now, port, &mut frames)?;
    assert_eq!(frames[0].verdict(), Some(Verdict::ToUnderlay(vtep)));
    assert_eq!(frames[0].bytes()[..8], *b"\x08\0\0\0\0\0\x2a\0");

    while let Some(event) = engine.poll_event() {
        println!("{event}");
    }
    Ok(())
}
