//! Traffic that goes on until it is told to stop.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use overlane_testkit::NetNs;
use overlane_testkit::transfer::Stream;

use crate::site::*;

/// Datagrams as fast as two threads of a pod can send.
pub struct Blast {
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    senders: Vec<JoinHandle<()>>,
    receiver: Option<JoinHandle<()>>,
}

impl Blast {
    /// The payload of the smallest Ethernet frame.
    pub const SMALL: usize = 18;

    pub fn start(from: &NetNs, to: &NetNs, addr: IpAddr, size: usize) -> Blast {
        let inbox = to.run(|| UdpSocket::bind((addr, 0)).unwrap());
        inbox.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let target = inbox.local_addr().unwrap();
        let mut blast = Blast::start_at(from, target, size);
        let (count, end) = (Arc::clone(&blast.received), Arc::clone(&blast.end));
        let receiver = to.spawn(move || {
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                if inbox.recv(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        blast.receiver = Some(receiver);
        blast
    }

    /// To a port where nobody listens.
    pub fn start_unheard(from: &NetNs, addr: IpAddr, size: usize) -> Blast {
        Blast::start_at(from, SocketAddr::new(addr, 9), size)
    }

    fn start_at(from: &NetNs, target: SocketAddr, size: usize) -> Blast {
        let stop = Arc::<AtomicBool>::default();
        let (sent, received) = (Arc::<AtomicU64>::default(), Arc::default());
        let senders = (0..2)
            .map(|_| {
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
                from.spawn(move || send(target, size, &stop, &sent))
            })
            .collect();
        Blast { stop, end: Arc::default(), sent, received, senders, receiver: None }
    }

    /// Sends no more; how many the kernel of the sending pod took. What is on its way still arrives.
    pub fn stop(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.senders.drain(..) {
            let _ = thread.join();
        }
        self.sent.load(Ordering::Relaxed)
    }

    /// How many have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Blast {
    fn drop(&mut self) {
        self.stop();
        self.end.store(true, Ordering::Relaxed);
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
    }
}

fn send(to: SocketAddr, size: usize, stop: &AtomicBool, sent: &AtomicU64) {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect(to).unwrap();
    let datagram = vec![0x5a; size];
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            if socket.send(&datagram).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Streams one after the other, in each direction and over both families; each must arrive whole.
pub struct Streams {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Streams {
    const BYTES: u64 = 1 << 20;

    pub fn start(site: &Site) -> Streams {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = [(0, false), (1, true)]
            .into_iter()
            .map(|(from, v6)| {
                let (sender, receiver) = (site.pod(from).clone(), site.pod(1 - from).clone());
                let to = site.addr(1 - from, v6);
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || {
                    for seed in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let stream = Stream { bytes: Self::BYTES, writes: &[], seed, timeout: 4 * PATIENCE };
                        stream.run(&receiver, &sender, to).unwrap_or_else(|e| panic!("to {to}: {e}"));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Streams { stop, done, threads }
    }

    /// How many have arrived.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits for as many more to arrive.
    pub fn wait_for(&self, more: u64) {
        let (start, goal) = (Instant::now(), self.done() + more);
        while self.done() < goal {
            assert!(start.elapsed() < 4 * PATIENCE, "no stream gets through");
            assert!(self.threads.iter().all(|t| !t.is_finished()), "a stream failed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends them; the last ones still arrive whole.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.done.load(Ordering::Relaxed)
    }
}
