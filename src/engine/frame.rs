//! A packet in the caller's buffer, and what is to be done with it.

use core::fmt;
use core::net::IpAddr;
use core::ops::Range;

use crate::addr::{PortId, Vni, VtepId};
use crate::error::{DropReason, FrameError, PuntReason};
use crate::wire::checksum::Sum;
use crate::wire::ecn;
use crate::wire::inner::Inner;
use crate::wire::vxlan::GroupPolicy;

/// What the host must do with a frame that the engine has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Send the frame's bytes, headers written, to this VTEP.
    ToUnderlay(VtepId),
    /// Write the frame's bytes, now an inner frame, to this local port.
    ToPort(PortId),
    /// Send a copy to each member of the VNI's flood list: see
    /// [`Engine::replicas`](super::Engine::replicas). The frame holds the inner frame.
    Flood(Vni),
    /// Hand the frame to the host's slow path: as it came, or from a tunnel without its outer
    /// headers and with the congestion mark that they bore. What is due is told in the [module](super).
    Punt(PuntReason),
    /// Forget it. It was counted.
    Drop(DropReason),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::ToUnderlay(v) => write!(f, "send to {v}"),
            Verdict::ToPort(p) => write!(f, "write to {p}"),
            Verdict::Flood(v) => write!(f, "flood VNI {v}"),
            Verdict::Punt(r) => write!(f, "punt: {r}"),
            Verdict::Drop(r) => write!(f, "drop: {r}"),
        }
    }
}

/// Where a frame entered the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingress {
    Unset,
    Port(PortId),
    Tunnel,
}

/// One packet: a caller's buffer, the range of it that holds the packet, and the engine's verdict.
///
/// The octets before the range are headroom: encapsulation writes the outer headers there and
/// moves the start of the range; the payload is never copied. Decapsulation moves the start
/// forward. [`HEADROOM`](super::HEADROOM) octets are enough for every outer shape.
///
/// ```
/// use overlane::engine::{Frame, HEADROOM};
/// let mut buf = [0u8; 2048];
/// buf[HEADROOM..HEADROOM + 3].copy_from_slice(b"abc");
/// let frame = Frame::new(&mut buf, HEADROOM..HEADROOM + 3)?;
/// assert_eq!(frame.bytes(), b"abc");
/// assert_eq!(frame.headroom(), HEADROOM);
/// # Ok::<(), overlane::error::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Frame<'b> {
    buffer: &'b mut [u8],
    start: usize,
    end: usize,
    pub(crate) segment_len: usize,
    pub(crate) group: Option<GroupPolicy>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) vni: Option<Vni>,
    pub(crate) ingress: Ingress,
    pub(crate) flow_hash: u32,
    pub(crate) ecn: u8,
    /// Identification for the copies of a flood, should their outer headers allow fragments.
    pub(crate) ip_id: u16,
}

impl Default for Frame<'_> {
    /// An empty packet without a buffer: a place that is not used, in an array of frames.
    #[inline]
    fn default() -> Self {
        Frame {
            buffer: &mut [],
            start: 0,
            end: 0,
            segment_len: 0,
            group: None,
            source: None,
            verdict: None,
            vni: None,
            ingress: Ingress::Unset,
            flow_hash: 0,
            ecn: 0,
            ip_id: 0,
        }
    }
}

impl<'b> Frame<'b> {
    /// The packet in `buffer[range]`, which must lie inside `buffer`.
    ///
    /// # Errors
    /// [`FrameError::Range`].
    #[inline]
    pub fn new(buffer: &'b mut [u8], range: Range<usize>) -> Result<Frame<'b>, FrameError> {
        let (start, end) = (range.start, range.end);
        if start > end || end > buffer.len() {
            return Err(FrameError::Range { start, end, buffer: buffer.len() });
        }
        Ok(Frame { buffer, start, end, ..Frame::default() })
    }

    /// The same frame, received from this underlay address. A backend whose outer shape is
    /// [`Shape::Udp`](crate::wire::outer::Shape::Udp) must say so, as the bytes do not.
    #[must_use]
    pub fn with_source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The same frame as a segmentation-offload superframe: `len` octets is the longest inner
    /// frame, headers included, that cutting it up will make. MTU rules look at this length.
    /// Zero, the default, says that the frame is sent as it is.
    #[must_use]
    pub fn with_segment_len(mut self, len: usize) -> Self {
        self.segment_len = len;
        self
    }

    /// The same frame, to be sent with this policy group instead of the VNI's own.
    #[must_use]
    pub fn with_group(mut self, group: GroupPolicy) -> Self {
        self.group = Some(group);
        self
    }

    /// The same frame, received with this ECN field (the low two bits count). With
    /// [`Shape::Udp`](crate::wire::outer::Shape::Udp) only the socket knows it (`IP_RECVTOS`,
    /// `IPV6_RECVTCLASS`); the other shapes read it from the outer header.
    #[must_use]
    pub fn with_ecn(mut self, ecn: u8) -> Self {
        self.ecn = ecn & 3;
        self
    }

    /// The same frame, known to have got the verdict [`Verdict::Flood`] before: for a host that
    /// keeps the bytes but no `Frame` until it asks for the
    /// [`replicas`](super::Engine::replicas), such as one written in C. `from` is the port that it
    /// came from, `None` the tunnel. Group and segment length are to be given again.
    pub fn flooded(mut self, vni: Vni, from: Option<PortId>) -> Self {
        (self.verdict, self.vni) = (Some(Verdict::Flood(vni)), Some(vni));
        self.ingress = from.map_or(Ingress::Tunnel, Ingress::Port);
        // Nobody counts here: frames that differ get identifications that differ, as a rule.
        self.ip_id = Sum::new().add_bytes(self.bytes()).value();
        if let Ok(inner) = Inner::classify(self.bytes()) {
            self.flow_hash = inner.flow_hash(0);
            self.ecn = ecn::encapsulate(inner.ecn().unwrap_or(0));
        }
        self
    }

    /// The packet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or(&[])
    }

    /// The packet, to change.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or(&mut [])
    }

    /// Where the packet lies in the buffer.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The packet's length in octets.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the packet has no octets.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Octets free before the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// What is to be done; `None` before `encap` or `decap` has seen the frame.
    #[inline]
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// The VNI that the frame belongs to, once known.
    pub fn vni(&self) -> Option<Vni> {
        self.vni
    }

    /// The policy group: as set, or after `decap` as received.
    pub fn group(&self) -> Option<GroupPolicy> {
        self.group
    }

    /// The hash of the inner flow, for a backend that spreads flows over sockets or queues. The
    /// same flow has the same hash. Set by `encap`.
    pub fn flow_hash(&self) -> u32 {
        self.flow_hash
    }

    /// The ECN field that the outer header should carry (RFC 6040, section 4.1). Set by `encap`; a
    /// backend whose outer shape is [`Shape::Udp`](crate::wire::outer::Shape::Udp) hands it to the
    /// socket, in the other shapes it is written already.
    pub fn ecn(&self) -> u8 {
        self.ecn
    }

    /// The segment length given by [`with_segment_len`](Self::with_segment_len).
    pub fn segment_len(&self) -> usize {
        self.segment_len
    }

    /// Forgets the verdict and says that the packet now lies in `range` of the same buffer.
    ///
    /// # Errors
    /// [`FrameError::Range`]; nothing is forgotten then.
    pub fn reset(&mut self, range: Range<usize>) -> Result<(), FrameError> {
        if range.start > range.end || range.end > self.buffer.len() {
            let (start, end) = (range.start, range.end);
            return Err(FrameError::Range { start, end, buffer: self.buffer.len() });
        }
        (self.start, self.end) = (range.start, range.end);
        (self.verdict, self.vni, self.source, self.group) = (None, None, None, None);
        (self.segment_len, self.flow_hash, self.ecn, self.ingress) = (0, 0, 0, Ingress::Unset);
        self.ip_id = 0;
        Ok(())
    }

    /// Notes where the frame comes from; `group` is for one that has none.
    #[inline(always)]
    pub(crate) fn enter(&mut self, port: PortId, vni: Vni, group: Option<GroupPolicy>) {
        (self.ingress, self.vni) = (Ingress::Port(port), Some(vni));
        if self.group.is_none() {
            self.group = group;
        }
    }

    /// The packet with `n` octets of headroom in front, to write headers into; `None` where the
    /// headroom is shorter.
    #[inline]
    pub(crate) fn with_headers(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = self.start.checked_sub(n)?;
        self.buffer.get_mut(start..self.end)
    }

    /// The `N` octets before the packet; `None` where there are fewer.
    #[inline(always)]
    pub(crate) fn before<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.buffer.get_mut(..self.start)?.last_chunk_mut()
    }

    /// The packet; always there.
    #[inline(always)]
    pub(crate) fn packet(&self) -> Option<&[u8]> {
        self.buffer.get(self.start..self.end)
    }

    /// Moves the start back over `n` octets of headers that were written.
    #[inline(always)]
    pub(crate) fn push_front(&mut self, n: usize) {
        self.start = self.start.saturating_sub(n);
    }

    /// The same as [`narrow`](Self::narrow) for a range that is known to lie inside.
    #[inline(always)]
    pub(crate) fn strip(&mut self, start: usize, end: usize) {
        self.end = self.start.wrapping_add(end);
        self.start = self.start.wrapping_add(start);
    }

    /// Narrows the packet to `range` of itself.
    #[inline]
    pub(crate) fn narrow(&mut self, range: Range<usize>) {
        let end = self.start.saturating_add(range.end).min(self.end);
        self.start = self.start.saturating_add(range.start).min(end);
        self.end = end;
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_frame_that_is_reset_is_like_a_new_one() {
        let mut buf = [0xff; 60];
        let source = IpAddr::from([192, 0, 2, 1]);
        let frame =
            Frame::new(&mut buf, 4..60).unwrap().with_group(GroupPolicy::default()).with_source(source);
        let mut frame = frame.with_segment_len(40).flooded(Vni::MAX, Some(PortId(3))).with_ecn(0xfe);
        assert_eq!(frame.ecn(), 2, "the low two bits count");
        assert!(frame.flow_hash() != 0 && frame.ip_id != 0);
        frame.reset(0..60).unwrap();
        let mut same = [0xff; 60];
        assert_eq!(format!("{frame:?}"), format!("{:?}", Frame::new(&mut same, 0..60).unwrap()));
    }

    #[test]
    fn a_range_must_lie_in_the_buffer() {
        let mut buf = [0u8; 8];
        #[allow(clippy::reversed_empty_ranges)]
        for bad in [5..4, 0..9, 9..9] {
            assert!(Frame::new(&mut buf, bad).is_err());
        }
        let mut frame = Frame::new(&mut buf, 8..8).unwrap();
        assert!(frame.is_empty() && frame.headroom() == 8);
        assert!(frame.reset(0..9).is_err());
        assert_eq!(frame.range(), 8..8);
        frame.reset(2..8).unwrap();
        frame.narrow(1..100);
        assert_eq!(frame.range(), 3..8);
        assert!(frame.with_headers(4).is_none());
        assert_eq!(frame.with_headers(3).unwrap().len(), 8);
    }
}
