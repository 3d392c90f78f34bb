//! A pod inside the process: a smoltcp interface on an engine port.
//!
//! A [`PodDevice`] is the wire between a smoltcp interface and a local port of an engine: two queues
//! of frames in memory that the host lends. What the interface sends is taken out with
//! [`take`](PodDevice::take), headroom and all, ready for
//! [`Engine::encap`](crate::engine::Engine::encap); what has the verdict
//! [`ToPort`](crate::engine::Verdict::ToPort), or is a copy of a flood for this port, goes in with
//! [`deliver`](PodDevice::deliver).
//!
//! ```
//! use overlane::engine::HEADROOM;
//! use overlane::smoltcp::PodDevice;
//! use smoltcp::iface::{Config, Interface, SocketSet};
//! use smoltcp::time::Instant;
//! use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
//!
//! let mut memory = [0u8; PodDevice::octets_for(1450, 4)];
//! let mut device = PodDevice::new(&mut memory[..], 1450)?;
//! let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
//! let mut pod = Interface::new(Config::new(mac.into()), &mut device, Instant::ZERO);
//! pod.update_ip_addrs(|addrs| addrs.push(IpCidr::new(IpAddress::v4(10, 0, 0, 1), 24)).unwrap());
//!
//! // Who has 10.0.0.1? The engine would bring this frame from a tunnel or from another port.
//! let mut request = [0u8; 42];
//! request[..6].fill(0xff);
//! request[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
//! request[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
//! request[22..32].copy_from_slice(&[2, 0, 0, 0, 0, 2, 10, 0, 0, 2]);
//! request[38..].copy_from_slice(&[10, 0, 0, 1]);
//! assert_eq!(device.deliver(&request), Ok(()));
//!
//! pod.poll(Instant::ZERO, &mut device, &mut SocketSet::new(&mut [][..]));
//! let reply = device.take().unwrap(); // for Engine::encap
//! assert_eq!(reply.headroom(), HEADROOM);
//! assert_eq!(reply.bytes()[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::fmt;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::engine::{Frame, HEADROOM};
use crate::error::{CapacityError, DropReason};
use crate::wire::ethernet;

/// Octets in front of each frame's headroom that hold the frame's length.
const PREFIX: usize = 8;

/// The least MTU of an IPv4 link (RFC 791, section 3.2).
const MIN_MTU: u16 = 68;

/// What went through a [`PodDevice`]. All counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodCounters {
    /// Frames that the interface sent.
    pub sent: u64,
    /// Times that the interface found no room to send; it tries again by itself.
    pub send_refused: u64,
    /// Frames delivered to the interface.
    pub delivered: u64,
    /// Frames not delivered because the queue was full.
    pub full: u64,
    /// Frames not delivered because they exceed the MTU.
    pub too_long: u64,
}

/// A smoltcp device on an engine port: two bounded queues over lent memory.
///
/// `M` is the memory: `[u8; N]`, `&mut [u8]`, `Box<[u8]>`, `Vec<u8>`; it must be the same slice at
/// every call. One half holds what the interface sent, the other what it is to receive. Nothing
/// allocates after the device is made. See the [module](self) for an example.
pub struct PodDevice<M> {
    memory: M,
    mtu: u16,
    tx: Ring,
    rx: Ring,
    counters: PodCounters,
}

/// The places of a queue: which of its slots hold frames.
#[derive(Debug, Clone, Copy)]
struct Ring {
    slots: usize,
    head: usize,
    len: usize,
}

impl Ring {
    fn new(slots: usize) -> Ring {
        Ring { slots, head: 0, len: 0 }
    }

    fn is_full(&self) -> bool {
        self.len >= self.slots
    }

    /// The slot behind the newest frame; the frame is in the queue once `len` says so.
    fn tail(&self) -> usize {
        let at = self.head.wrapping_add(self.len);
        if at >= self.slots { at.wrapping_sub(self.slots) } else { at }
    }

    fn pop(&mut self) -> Option<usize> {
        self.len = self.len.checked_sub(1)?;
        let at = self.head;
        self.head = if at + 1 >= self.slots { 0 } else { at + 1 };
        Some(at)
    }
}

/// Octets of one slot: the length, the headroom, the longest frame.
const fn slot_len(mtu: u16) -> usize {
    let mtu = if mtu < MIN_MTU { MIN_MTU } else { mtu };
    (PREFIX + HEADROOM + ethernet::HEADER_LEN + mtu as usize).next_multiple_of(8)
}

/// A slot's memory behind its length.
fn slot(half: &mut [u8], len: usize, at: usize) -> Option<(&mut [u8; PREFIX], &mut [u8])> {
    let from = at.checked_mul(len)?;
    half.get_mut(from..from.checked_add(len)?)?.split_first_chunk_mut::<PREFIX>()
}

impl PodDevice<&mut [u8]> {
    /// Octets of memory for two queues of `frames` frames each, with this MTU.
    pub const fn octets_for(mtu: u16, frames: usize) -> usize {
        slot_len(mtu).saturating_mul(2).saturating_mul(frames)
    }
}

#[cfg(feature = "alloc")]
impl PodDevice<alloc::boxed::Box<[u8]>> {
    /// A device on the heap, with two queues of `frames` frames each (at least one). All memory is
    /// taken here.
    pub fn with_capacity(mtu: u16, frames: usize) -> Self {
        let frames = frames.max(1);
        let memory = alloc::vec![0; PodDevice::octets_for(mtu, frames)].into_boxed_slice();
        let mtu = mtu.max(MIN_MTU);
        let ring = Ring::new(frames);
        PodDevice { memory, mtu, tx: ring, rx: ring, counters: PodCounters::default() }
    }
}

impl<M: AsRef<[u8]> + AsMut<[u8]>> PodDevice<M> {
    /// A device over this memory, with as many frames as [`octets_for`](PodDevice::octets_for) says.
    ///
    /// `mtu` is the longest IP packet, as in Linux, so the longest frame is 14 octets more. Leave
    /// room for the outer headers: 1450 on an IPv4 underlay of 1500, 1430 on IPv6 (RFC 7348, section
    /// 4.3). It is at least 68 (RFC 791); IPv6 works from 1280 (RFC 8200, section 5).
    ///
    /// # Errors
    /// [`CapacityError::Empty`]: the memory does not hold one frame each way.
    pub fn new(memory: M, mtu: u16) -> Result<PodDevice<M>, CapacityError> {
        let mtu = mtu.max(MIN_MTU);
        let frames = memory.as_ref().len() / slot_len(mtu) / 2;
        if frames == 0 {
            return Err(CapacityError::Empty { table: "pod queues" });
        }
        let ring = Ring::new(frames);
        Ok(PodDevice { memory, mtu, tx: ring, rx: ring, counters: PodCounters::default() })
    }

    /// The longest IP packet, in octets.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// How many frames each queue can hold.
    pub fn capacity(&self) -> usize {
        self.tx.slots
    }

    /// Frames that wait for [`take`](Self::take).
    pub fn outgoing(&self) -> usize {
        self.tx.len
    }

    /// Frames that wait for the interface.
    pub fn incoming(&self) -> usize {
        self.rx.len
    }

    /// What went through the device.
    pub fn counters(&self) -> &PodCounters {
        &self.counters
    }

    /// Takes the oldest frame that the interface sent out of its queue. It has
    /// [`HEADROOM`] octets of headroom, so that encapsulation needs no copy.
    pub fn take(&mut self) -> Option<Frame<'_>> {
        let at = self.tx.pop()?;
        let len = slot_len(self.mtu);
        let (tx, _) = halves(self.memory.as_mut(), self.tx.slots, len)?;
        let (prefix, buffer) = slot(tx, len, at)?;
        let frame = HEADROOM..HEADROOM.checked_add(read_len(prefix))?;
        Frame::new(buffer, frame).ok()
    }

    /// Puts a frame into the queue of what the interface is to receive; it is copied.
    ///
    /// # Errors
    /// Why it was refused, for [`Engine::count_drop`](crate::engine::Engine::count_drop): the queue
    /// is full ([`DropReason::TxQueueFull`]), or the frame exceeds the MTU ([`DropReason::TxFailed`]).
    pub fn deliver(&mut self, frame: &[u8]) -> Result<(), DropReason> {
        if frame.len() > usize::from(self.mtu) + ethernet::HEADER_LEN {
            self.counters.too_long = self.counters.too_long.wrapping_add(1);
            return Err(DropReason::TxFailed);
        }
        if self.rx.is_full() {
            self.counters.full = self.counters.full.wrapping_add(1);
            return Err(DropReason::TxQueueFull);
        }
        let (len, at) = (slot_len(self.mtu), self.rx.tail());
        let place = halves(self.memory.as_mut(), self.rx.slots, len)
            .and_then(|(_, rx)| slot(rx, len, at))
            .and_then(|(prefix, buffer)| Some((prefix, buffer.get_mut(HEADROOM..)?.get_mut(..frame.len())?)));
        let (prefix, bytes) = place.ok_or(DropReason::TxFailed)?;
        *prefix = (frame.len() as u64).to_le_bytes();
        bytes.copy_from_slice(frame);
        self.rx.len += 1;
        self.counters.delivered = self.counters.delivered.wrapping_add(1);
        Ok(())
    }

    /// Forgets all frames in both queues.
    pub fn clear(&mut self) {
        (self.tx, self.rx) = (Ring::new(self.tx.slots), Ring::new(self.rx.slots));
    }

    fn tx_token(&mut self) -> Option<PodTxToken<'_>> {
        let len = slot_len(self.mtu);
        let (tx, _) = halves(self.memory.as_mut(), self.tx.slots, len)?;
        tx_token(tx, len, &mut self.tx, &mut self.counters)
    }
}

/// The two queues' parts of the memory: to send, to receive.
fn halves(memory: &mut [u8], slots: usize, slot: usize) -> Option<(&mut [u8], &mut [u8])> {
    memory.split_at_mut_checked(slots.checked_mul(slot)?)
}

fn read_len(prefix: &[u8; PREFIX]) -> usize {
    u64::from_le_bytes(*prefix) as usize
}

fn tx_token<'a>(
    half: &'a mut [u8],
    len: usize,
    ring: &'a mut Ring,
    counters: &'a mut PodCounters,
) -> Option<PodTxToken<'a>> {
    if ring.is_full() {
        counters.send_refused = counters.send_refused.wrapping_add(1);
        return None;
    }
    let (prefix, buffer) = slot(half, len, ring.tail())?;
    Some(PodTxToken { prefix, frame: buffer.get_mut(HEADROOM..)?, ring, counters })
}

impl<M: AsRef<[u8]> + AsMut<[u8]>> Device for PodDevice<M> {
    type RxToken<'a>
        = PodRxToken<'a>
    where
        M: 'a;
    type TxToken<'a>
        = PodTxToken<'a>
    where
        M: 'a;

    /// A frame to receive, with room for the answer to it; without that room the frame waits.
    fn receive(&mut self, _: Instant) -> Option<(PodRxToken<'_>, PodTxToken<'_>)> {
        if self.rx.len == 0 {
            return None;
        }
        let len = slot_len(self.mtu);
        let (tx, rx) = halves(self.memory.as_mut(), self.tx.slots, len)?;
        let answer = tx_token(tx, len, &mut self.tx, &mut self.counters)?;
        let (prefix, buffer) = slot(rx, len, self.rx.pop()?)?;
        let frame = buffer.get(HEADROOM..)?.get(..read_len(prefix))?;
        Some((PodRxToken { frame }, answer))
    }

    fn transmit(&mut self, _: Instant) -> Option<PodTxToken<'_>> {
        self.tx_token()
    }

    /// Ethernet; TCP windows are kept to what the receive queue holds.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.mtu) + ethernet::HEADER_LEN;
        capabilities.max_burst_size = Some(self.rx.slots);
        capabilities
    }
}

/// A frame for the interface; it has left its queue.
#[derive(Debug)]
pub struct PodRxToken<'a> {
    frame: &'a [u8],
}

impl RxToken for PodRxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }
}

/// Room for a frame from the interface; it joins its queue when it is written.
#[derive(Debug)]
pub struct PodTxToken<'a> {
    prefix: &'a mut [u8; PREFIX],
    frame: &'a mut [u8],
    ring: &'a mut Ring,
    counters: &'a mut PodCounters,
}

impl TxToken for PodTxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp keeps to the MTU, for which every slot has room.
        let len = len.min(self.frame.len());
        let result = f(self.frame.get_mut(..len).unwrap_or(&mut []));
        *self.prefix = (len as u64).to_le_bytes();
        self.ring.len += 1;
        self.counters.sent = self.counters.sent.wrapping_add(1);
        result
    }
}

impl<M> fmt::Debug for PodDevice<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodDevice")
            .field("mtu", &self.mtu)
            .field("outgoing", &self.tx.len)
            .field("incoming", &self.rx.len)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 100;
    const LONGEST: usize = MTU as usize + ethernet::HEADER_LEN;

    fn send<M: AsRef<[u8]> + AsMut<[u8]>>(device: &mut PodDevice<M>, bytes: &[u8]) -> bool {
        let token = device.transmit(Instant::ZERO);
        token.map(|t| t.consume(bytes.len(), |buffer| buffer.copy_from_slice(bytes))).is_some()
    }

    #[test]
    fn memory_makes_whole_slots_and_refuses_none() {
        let one = PodDevice::octets_for(MTU, 1);
        for (octets, frames) in [(0, 0), (one - 1, 0), (one, 1), (2 * one - 1, 1), (7 * one, 7)] {
            let mut memory = [0u8; PodDevice::octets_for(MTU, 7)];
            match PodDevice::new(&mut memory[..octets], MTU) {
                Ok(device) => assert_eq!(device.capacity(), frames),
                Err(e) => assert_eq!((e, frames), (CapacityError::Empty { table: "pod queues" }, 0)),
            }
        }
        let tiny = [0u8; PodDevice::octets_for(0, 1)];
        assert_eq!(PodDevice::new(tiny, 0).map(|d| d.mtu()), Ok(MIN_MTU));
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_oldest_first() {
        const FRAMES: usize = 3;
        let mut device = PodDevice::new([0u8; PodDevice::octets_for(MTU, FRAMES)], MTU).unwrap();
        // More rounds than slots, so that the places wrap.
        for round in 0..10u8 {
            for n in 0..FRAMES as u8 {
                assert!(send(&mut device, &[round ^ n; LONGEST]));
                assert_eq!(device.deliver(&[!(round ^ n); 60]), Ok(()));
            }
            assert!(!send(&mut device, &[0; 60]));
            assert_eq!(device.deliver(&[0; 60]), Err(DropReason::TxQueueFull));
            // No room for an answer: what is to be received waits.
            assert!(device.receive(Instant::ZERO).is_none());
            assert_eq!((device.outgoing(), device.incoming()), (FRAMES, FRAMES));
            for n in 0..FRAMES as u8 {
                let frame = device.take().unwrap();
                assert_eq!((frame.bytes(), frame.headroom()), (&[round ^ n; LONGEST][..], HEADROOM));
                let (rx, _) = device.receive(Instant::ZERO).unwrap();
                rx.consume(|frame| assert_eq!(frame, [!(round ^ n); 60]));
            }
            assert!(device.take().is_none() && device.receive(Instant::ZERO).is_none());
        }
        let expected = PodCounters { sent: 30, send_refused: 20, delivered: 30, full: 10, too_long: 0 };
        assert_eq!(*device.counters(), expected);
    }

    #[test]
    fn a_frame_over_the_mtu_is_refused() {
        let mut device = PodDevice::new([0u8; PodDevice::octets_for(MTU, 1)], MTU).unwrap();
        assert_eq!(device.capabilities().max_transmission_unit, LONGEST);
        assert_eq!(device.deliver(&[1; LONGEST + 1]), Err(DropReason::TxFailed));
        assert_eq!(device.deliver(&[1; LONGEST]), Ok(()));
        assert_eq!((device.counters().too_long, device.incoming()), (1, 1));
        device.clear();
        assert_eq!((device.outgoing(), device.incoming()), (0, 0));
    }

    #[test]
    fn a_token_that_is_not_used_sends_nothing() {
        let mut device = PodDevice::new([0u8; PodDevice::octets_for(MTU, 1)], MTU).unwrap();
        assert!(device.transmit(Instant::ZERO).is_some());
        assert_eq!(device.outgoing(), 0);
        assert!(send(&mut device, b"x"));
        assert!(device.transmit(Instant::ZERO).is_none());
    }
}
