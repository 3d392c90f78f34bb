//! Fills the tables of a node with the MAC addresses of a crowd of VTEPs.
//!
//! `crowd NODE:PORT VNI BASE VTEPS MACS` sends, from the VTEPS addresses behind BASE and the port of
//! the node, one frame from each of MACS addresses. The addresses must be local:
//! `ip route add local 198.18.0.0/16 dev lo`.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::net::SocketAddr;

    use overlane_testkit::crowd::Crowd;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to, vni, base, vteps, macs] = &arguments[..] else {
        return Err("usage: crowd NODE:PORT VNI BASE VTEPS MACS".into());
    };
    let to: SocketAddr = to.parse()?;
    let crowd = Crowd { base: base.parse()?, vteps: vteps.parse()?, macs: macs.parse()? };
    // Once more for what the first round lost.
    for _ in 0..2 {
        crowd.fill(to, to.port(), vni.parse()?)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
