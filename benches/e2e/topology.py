"""Two hosts on one underlay, a pod behind each, and the overlay between them that is to be measured.

    pod A --veth-- [host A: bridge -- overlay] --veth: the underlay-- [host B: overlay -- bridge] --veth-- pod B

Hosts and pods are network namespaces. Everything has a name that begins with PREFIX, and `Topology` removes
what it made: its namespaces, and the processes that it started.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time

PREFIX = "ole2e-"
UNDERLAY_MTU = 1500
VNI, PORT = 42, 4789
HOSTS = ("A", "B")
UNDERLAY_ADDR = {"A": "192.0.2.1", "B": "192.0.2.2"}
POD_ADDR = {"A": "10.77.1.2", "B": "10.77.2.2"}
GATEWAY = {"A": "10.77.1.1", "B": "10.77.2.1"}
POD_NET = {"A": "10.77.1.0/24", "B": "10.77.2.0/24"}
CPU = {"A": 0, "B": 1}

# What a veth pair would otherwise carry whole: with these off, packets of the MTU cross the underlay.
SEGMENTATION = (
    "tso",
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gre-segmentation",
    "tx-ipxip4-segmentation",
)


class Failed(Exception):
    """Something that the measurement needs did not work."""


def run(*command, check=True):
    """A command's output."""
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def host(side):
    return f"{PREFIX}host{side}"


def pod(side):
    return f"{PREFIX}pod{side}"


def inside(namespace, *command):
    return ("ip", "netns", "exec", namespace, *command)


def other(side):
    return "B" if side == "A" else "A"


class Topology:
    """One variant, up. Use as a context."""

    def __init__(self, variant, underlay, pinned=True):
        self.variant, self.underlay, self.pinned = variant, underlay, pinned
        self.endpoints = []
        self.state = None

    def __enter__(self):
        self.remove()
        self.state = tempfile.mkdtemp(prefix=PREFIX)
        try:
            self.make_underlay()
            self.variant.up(self)
            self.wait_for_pods()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        for process in self.endpoints:
            process.send_signal(signal.SIGTERM)
        for process in self.endpoints:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.endpoints = []
        present = {line.split()[0] for line in run("ip", "netns", "list").splitlines() if line}
        for name in [pod("A"), pod("B"), host("A"), host("B")]:
            if name in present:
                run("ip", "netns", "del", name)
        if self.state:
            shutil.rmtree(self.state, ignore_errors=True)
            self.state = None

    def pin(self, side):
        return ("taskset", "-c", str(CPU[side])) if self.pinned else ()

    def in_pod(self, side, *command):
        return inside(pod(side), *self.pin(side), *command)

    def make_underlay(self):
        for side in HOSTS:
            for name in (host(side), pod(side)):
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            run(*inside(host(side), "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        mtu = str(UNDERLAY_MTU)
        run("ip", "-n", host("A"), "link", "add", "ul", "mtu", mtu, "type", "veth",
            "peer", "name", "ul", "netns", host("B"), "mtu", mtu)
        for side in HOSTS:
            run("ip", "-n", host(side), "addr", "add", UNDERLAY_ADDR[side] + "/24", "dev", "ul")
            run("ip", "-n", host(side), "link", "set", "ul", "up")
            if self.pinned:
                # What a host receives is processed on its own processor, as between real hosts.
                mask = f"{1 << CPU[side]:x}"
                run(*inside(host(side), "sh", "-c", f"echo {mask} > /sys/class/net/ul/queues/rx-0/rps_cpus"))
            if self.underlay == "wire":
                for feature in SEGMENTATION:
                    run(*inside(host(side), "ethtool", "-K", "ul", feature, "off"), check=False)
                run(*inside(host(side), "ethtool", "-K", "ul", "gro", "on"))

    def make_pods(self, mtu, routed=False, offloads=True, bridged=True):
        """Pods whose side of the host is in a bridge: `br0`, or routed `cni0`."""
        for side in HOSTS:
            h, p = host(side), pod(side)
            run("ip", "-n", h, "link", "add", "pod0", "mtu", str(mtu), "type", "veth",
                "peer", "name", "eth0", "netns", p, "mtu", str(mtu))
            run("ip", "-n", h, "link", "set", "pod0", "up")
            run("ip", "-n", p, "link", "set", "eth0", "up")
            run("ip", "-n", p, "addr", "add", POD_ADDR[side] + ("/24" if routed else "/16"), "dev", "eth0")
            if not offloads:
                for namespace, device in ((p, "eth0"), (h, "pod0"), (h, "ul")):
                    off = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")
                    run(*inside(namespace, "ethtool", "-K", device, *off), check=False)
            if not bridged:
                continue
            bridge = "cni0" if routed else "br0"
            run("ip", "-n", h, "link", "add", bridge, "mtu", str(mtu), "type", "bridge")
            run("ip", "-n", h, "link", "set", bridge, "up")
            run("ip", "-n", h, "link", "set", "pod0", "master", bridge)
            if routed:
                run("ip", "-n", h, "addr", "add", GATEWAY[side] + "/24", "dev", bridge)
                run("ip", "-n", p, "route", "add", "default", "via", GATEWAY[side])

    def join(self, side, device, mtu):
        """Puts the overlay's device into the bridge of the pods."""
        h = host(side)
        run("ip", "-n", h, "link", "set", device, "mtu", str(mtu))
        run("ip", "-n", h, "link", "set", device, "master", "br0")
        run("ip", "-n", h, "link", "set", device, "up")

    def start(self, side, command, count=True, env=None):
        """Starts a process of the overlay in a host; `count` says that its time and memory are the overlay's."""
        log = open(os.path.join(self.state, f"{len(self.endpoints)}{side}.log"), "wb")
        process = subprocess.Popen(
            inside(host(side), *self.pin(side), *command),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})},
        )
        process.log, process.counts = log.name, count
        self.endpoints.append(process)
        return process

    def wait_for_device(self, side, device):
        for _ in range(100):
            done = subprocess.run(("ip", "-n", host(side), "link", "show", device), capture_output=True)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise Failed(f"{self.variant.name}: no device {device} on host {side}\n{self.logs()}")

    def wait_for_pods(self):
        for _ in range(30):
            ping = self.in_pod("A", "ping", "-c1", "-W1", "-q", POD_ADDR["B"])
            if subprocess.run(ping, capture_output=True).returncode == 0:
                return
            time.sleep(0.2)
        raise Failed(f"{self.variant.name}: the pods do not reach each other\n{self.logs()}")

    def logs(self):
        tails = []
        for process in self.endpoints:
            with open(process.log, errors="replace") as log:
                tails += log.read().splitlines()[-5:]
        return "\n".join(tails)

    def processor_seconds(self):
        """What the overlay's own processes have used, in both hosts."""
        ticks = 0
        for process in self.endpoints:
            if process.counts:
                for task in self.family(process.pid):
                    fields = open(f"/proc/{task}/stat").read().rsplit(") ", 1)[1].split()
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_rss_kib(self):
        """The peak resident set of the largest of the overlay's processes."""
        peak = 0
        for process in self.endpoints:
            if process.counts:
                for task in self.family(process.pid):
                    for line in open(f"/proc/{task}/status"):
                        if line.startswith("VmHWM:"):
                            peak = max(peak, int(line.split()[1]))
        return peak

    @staticmethod
    def family(pid):
        """A process and what it started."""
        found = [pid]
        for parent in found:
            try:
                found += map(int, open(f"/proc/{parent}/task/{parent}/children").read().split())
            except FileNotFoundError:
                pass
        return found
