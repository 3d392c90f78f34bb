//! What crosses a device, frame by frame.

use core::time::Duration;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::netns::NetNs;
pub use crate::pcapng::Frame;

/// What a capture keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of each frame.
    pub snap_len: usize,
    /// Frames; later ones are counted only.
    pub frames: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { snap_len: 65_536, frames: 100_000 }
    }
}

/// What a capture saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captured {
    /// The frames, in order.
    pub frames: Vec<Frame>,
    /// Frames beyond [`Limits::frames`].
    pub not_kept: u64,
}

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Captured>>,
}

impl Capture {
    /// Starts to capture on a device of `ns`. Nothing that crosses it after the return is missed,
    /// short of an overrun of the socket's 32 MiB.
    pub fn start(ns: &NetNs, device: &str, limits: Limits) -> io::Result<Capture> {
        let index = ns.rtnl().and_then(|mut r| r.device(device)).map_err(io::Error::other)?.index as usize;
        let socket = ns.run(|| {
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        })?;
        if setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &(16 << 20))?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(Duration::from_millis(20)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(format!("capture {device}")).spawn(move || {
            const PACKET_OUTGOING: u8 = 4;
            let mut seen = Captured::default();
            let mut buffer = vec![0; 65_536 + 64];
            let mut control = nix::cmsg_space!(TimeSpec);
            // Asked to stop, it still reads what waits, though not for ever.
            let mut deadline = None;
            while deadline.is_none_or(|d| Instant::now() < d) {
                if stopped.load(Ordering::Acquire) && deadline.is_none() {
                    deadline = Some(Instant::now() + Duration::from_secs(1));
                }
                let mut parts = [io::IoSliceMut::new(&mut buffer)];
                let message = recvmsg::<LinkAddr>(
                    socket.as_raw_fd(),
                    &mut parts,
                    Some(&mut control),
                    MsgFlags::empty(),
                );
                let Ok(message) = message else {
                    if deadline.is_some() {
                        break;
                    }
                    continue;
                };
                let Some(from) = message.address.filter(|f| f.ifindex() == index) else { continue };
                let len = message.bytes;
                let time = message
                    .cmsgs()
                    .ok()
                    .and_then(|mut all| all.find_map(kernel_time))
                    .unwrap_or_else(SystemTime::now);
                if seen.frames.len() >= limits.frames {
                    seen.not_kept += 1;
                    continue;
                }
                seen.frames.push(Frame {
                    time,
                    wire_len: len as u32,
                    outgoing: from.pkttype() == PACKET_OUTGOING,
                    data: buffer[..len.min(limits.snap_len)].to_vec(),
                });
            }
            seen
        })?;
        Ok(Capture { stop, thread: Some(thread) })
    }

    /// Ends the capture and gives what it saw.
    pub fn stop(mut self) -> Captured {
        self.end()
    }

    fn end(&mut self) -> Captured {
        self.stop.store(true, Ordering::Release);
        self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

fn kernel_time(message: ControlMessageOwned) -> Option<SystemTime> {
    match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(UNIX_EPOCH + Duration::from(time)),
        _ => None,
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}
