//! The ladder of offloads, and what each step costs where it is missing.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// How much work on packets is shared out over many of them: the rungs of a ladder, each with what
/// those below it have. The order is that of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Offload {
    /// One packet in each system call.
    None,
    /// Many datagrams in each system call (`recvmmsg`, `sendmmsg`).
    Batch,
    /// Superframes of the pods are cut up here and leave as one send (`UDP_SEGMENT`); what arrives is
    /// taken together (`UDP_GRO`) and merged into superframes again.
    Gso,
    /// Superframes of the pods leave whole, with their outer headers: the kernel or the network card
    /// cuts them up, if anybody has to (UDP tunnel segmentation offload, Linux 6.17).
    Tunnel,
}

impl Offload {
    /// All of them, from the ground up.
    pub const ALL: [Offload; 4] = [Offload::None, Offload::Batch, Offload::Gso, Offload::Tunnel];

    /// `none`, `batch`, `gso` or `tunnel`.
    pub const fn name(self) -> &'static str {
        match self {
            Offload::None => "none",
            Offload::Batch => "batch",
            Offload::Gso => "gso",
            Offload::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no [`Offload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownOffload;

impl fmt::Display for UnknownOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none, batch, gso or tunnel")
    }
}

impl core::error::Error for UnknownOffload {}

impl FromStr for Offload {
    type Err = UnknownOffload;

    fn from_str(text: &str) -> Result<Offload, UnknownOffload> {
        Offload::ALL.into_iter().find(|o| o.name() == text).ok_or(UnknownOffload)
    }
}

/// A thing that the kernel must offer for a rung, or for something beside the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// TAP devices can be made.
    Tap,
    /// Frames on a TAP carry an offload header (`IFF_VNET_HDR`).
    VnetHeader,
    /// A TAP hands over TCP superframes (`TUN_F_TSO4`, `TUN_F_TSO6`).
    Tso,
    /// A TAP hands over UDP superframes and takes them (`TUN_F_USO4`, `TUN_F_USO6`; Linux 6.2).
    Uso,
    /// One send makes many equal datagrams (`UDP_SEGMENT`; Linux 4.18).
    UdpSegment,
    /// One receive takes many equal datagrams (`UDP_GRO`; Linux 5.0).
    UdpGro,
    /// A TAP takes tunnelled superframes (`TUN_F_UDP_TUNNEL_GSO`; Linux 6.17).
    TunnelGso,
    /// Filters on incoming packets (`clsact`).
    Clsact,
    /// The filter that the wiring is made of, and its action (`u32`, `mirred`).
    Redirect,
    /// Several queues of one TAP (`IFF_MULTI_QUEUE`).
    MultiQueue,
    /// Several sockets on one port (`SO_REUSEPORT`).
    ReusePort,
    /// Socket buffers above the system's limit (`SO_RCVBUFFORCE`).
    ForceBuffers,
}

impl Feature {
    /// All of them, in the order of the ladder.
    pub const ALL: [Feature; 12] = [
        Feature::Tap,
        Feature::VnetHeader,
        Feature::Tso,
        Feature::UdpSegment,
        Feature::UdpGro,
        Feature::Uso,
        Feature::TunnelGso,
        Feature::Clsact,
        Feature::Redirect,
        Feature::MultiQueue,
        Feature::ReusePort,
        Feature::ForceBuffers,
    ];

    /// The first rung that cannot do without it; `None` for what lies beside the ladder.
    pub const fn rung(self) -> Option<Offload> {
        match self {
            Feature::VnetHeader | Feature::Tso | Feature::UdpSegment | Feature::UdpGro => Some(Offload::Gso),
            Feature::TunnelGso | Feature::Clsact | Feature::Redirect => Some(Offload::Tunnel),
            Feature::Tap | Feature::Uso => None,
            Feature::MultiQueue | Feature::ReusePort | Feature::ForceBuffers => None,
        }
    }

    /// A word or two.
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Tap => "TAP devices",
            Feature::VnetHeader => "TAP vnet_hdr",
            Feature::Tso => "TAP TSO",
            Feature::Uso => "TAP USO",
            Feature::UdpSegment => "UDP_SEGMENT",
            Feature::UdpGro => "UDP_GRO",
            Feature::TunnelGso => "TAP tunnel GSO",
            Feature::Clsact => "tc clsact",
            Feature::Redirect => "tc u32, mirred",
            Feature::MultiQueue => "TAP multi-queue",
            Feature::ReusePort => "SO_REUSEPORT",
            Feature::ForceBuffers => "SO_RCVBUFFORCE",
        }
    }

    /// What is lost without it, by what was measured with prototypes on Linux 6.18 (a veth pair, both
    /// ends on one machine): an order of magnitude, no promise.
    pub const fn cost(self) -> &'static str {
        match self {
            Feature::Tap => "no devices of our own; open descriptors can be passed in",
            Feature::VnetHeader | Feature::Tso => {
                "no gso: every frame crosses the pod's stack alone, about 7x less TCP"
            }
            Feature::UdpSegment => "no gso: datagrams leave one by one, about 7x less TCP",
            Feature::UdpGro => "no gso: datagrams arrive one by one, about 7x less TCP",
            Feature::Uso => "small UDP datagrams reach pods one by one: about 2.5x fewer a second",
            Feature::TunnelGso | Feature::Clsact | Feature::Redirect => {
                "no tunnel: about 1.2x less TCP where the underlay takes superframes, nothing on a wire"
            }
            Feature::MultiQueue | Feature::ReusePort => "one worker: one core carries everything",
            Feature::ForceBuffers => {
                "net.core.rmem_max bounds receive buffers; at 208 KiB bursts are lost, tens of thousands of packets a run"
            }
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a [`Feature`] is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is.
    Yes,
    /// It is not; what the kernel said.
    No(String),
    /// It could not be looked at, and why.
    Unknown(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Yes => f.write_str("yes"),
            Finding::No(why) => write!(f, "no ({why})"),
            Finding::Unknown(why) => write!(f, "not looked at ({why})"),
        }
    }
}
