#!/usr/bin/env python3
"""Measures overlays end to end: one line of JSON for each variant and round.

    sudo benches/e2e/run.py --out e2e.jsonl
    sudo benches/e2e/run.py --underlay veth --variants kernel-vxlan,overlane-tunnel --rounds 5 --out e2e.jsonl
    benches/e2e/report.py e2e.jsonl

Rounds are interleaved: each round puts up every variant in turn, so that what else the machine does meets
all of them. Host A has one processor, host B another (--no-pin: as the scheduler likes). On the `wire`
underlay no packet longer than the MTU crosses the veth pair; `veth` is the pair as the kernel makes it,
over which superframes pass whole. Needs root, iproute2, ethtool, iperf3, sockperf and a C compiler.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

from topology import POD_ADDR, Failed, Topology, run
from variants import all_variants, missing

PHASES = ("tcp1", "tcp4", "pps", "rtt")
TOOLS = ("ip", "ethtool", "iperf3", "sockperf", "taskset", "cc")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def iperf(top, seconds, streams):
    """TCP payload per second at the receiver, and what the endpoints spent on it."""
    server = subprocess.Popen(
        top.in_pod("B", "iperf3", "-s", "-1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.3)
        before, start = top.processor_seconds(), time.monotonic()
        command = ("iperf3", "-c", POD_ADDR["B"], "-C", "cubic", "-t", str(seconds), "-O", "1", "-P", str(streams), "-J")
        done = subprocess.run(top.in_pod("A", *command), capture_output=True, text=True, timeout=seconds + 15)
        spent, took = top.processor_seconds() - before, time.monotonic() - start
        end = json.loads(done.stdout)["end"]
        gbps = end["sum_received"]["bits_per_second"] / 1e9
        # The second that iperf3 omits was carried, too.
        gigabytes = gbps / 8 * (seconds + 1)
        return {
            "gbps": round(gbps, 4),
            "retransmits": end["sum_sent"].get("retransmits"),
            "endpoint_cores": round(spent / took, 3),
            "endpoint_s_per_gb": round(spent / gigabytes, 3) if gigabytes else None,
        }
    finally:
        server.kill()
        server.wait()


def small_frames(top, seconds, program):
    """64-octet frames (18 octets of UDP payload) from two open-loop senders: received and offered per second."""
    receiver = subprocess.Popen(top.in_pod("B", program, "recv", "5301", str(seconds)), stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    sender = top.in_pod("A", program, "send", POD_ADDR["B"], "5301", str(seconds + 1), "18", "2")
    offered = subprocess.run(sender, capture_output=True, text=True, timeout=seconds + 20)
    received = receiver.communicate(timeout=seconds + 20)[0]
    return {"received_pps": float(received or 0), "offered_pps": float(offered.stdout or 0)}


def round_trip(top, seconds):
    """Full round trips of 64 octets over TCP: the median and the 99th percentile in microseconds."""
    server = subprocess.Popen(
        top.in_pod("B", "sockperf", "sr", "--tcp", "-i", POD_ADDR["B"], "-p", "11111"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.4)
        command = ("sockperf", "pp", "--tcp", "-i", POD_ADDR["B"], "-p", "11111", "-t", str(seconds), "-m", "64", "--full-rtt")
        done = subprocess.run(top.in_pod("A", *command), capture_output=True, text=True, timeout=seconds + 15)
        found = {}
        for line in done.stdout.splitlines():
            for percentile, name in (("percentile 50.000", "p50_us"), ("percentile 99.000", "p99_us")):
                if percentile in line:
                    found[name] = float(line.split()[-1])
        return found
    finally:
        server.kill()
        server.wait()


def measure(top, options, pps):
    phases = {
        "tcp1": lambda: iperf(top, options.seconds, 1),
        "tcp4": lambda: iperf(top, options.seconds, 4),
        "pps": lambda: small_frames(top, min(options.seconds, 3), pps),
        "rtt": lambda: round_trip(top, min(options.seconds, 3)),
    }
    out = {}
    for name in options.phases.split(","):
        try:
            out[name] = phases[name]()
        except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
            print(f"{top.variant.name}: {name}: {error!r}", file=sys.stderr)
    if top.endpoints:
        out["peak_rss_kib"] = top.peak_rss_kib()
    return out


def come_first():
    """Where the scheduler groups processes by session, puts this session before what else the machine does."""
    try:
        os.setsid()
        with open("/proc/self/autogroup", "w") as group:
            group.write("-20")
    except OSError:
        pass


def at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return int(text)


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "?")
    return {"processor": model, "processors": os.cpu_count(), "kernel": platform.release()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="file that lines are added to")
    parser.add_argument("--variants", default="plain,kernel-vxlan,overlane", help="with commas between; %(default)s")
    parser.add_argument("--underlay", choices=("wire", "veth"), default="wire", help="%(default)s")
    parser.add_argument("--phases", default=",".join(PHASES), help="with commas between; %(default)s")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="%(default)s")
    parser.add_argument("--seconds", type=at_least_one, default=5, help="of each phase; %(default)s")
    parser.add_argument("--no-pin", action="store_true", help="do not give each host one processor")
    parser.add_argument("--vtep", default=os.path.join(ROOT, "target/release/examples/vtep"), help="the program to measure")
    options = parser.parse_args()
    phases = options.phases.split(",")
    unknown = [name for name in phases if name not in PHASES]
    if unknown:
        parser.error(f"no phase {unknown[0]}; there are: {', '.join(PHASES)}")

    known = all_variants(options.vtep)
    chosen = []
    for name in options.variants.split(","):
        if name not in known:
            parser.error(f"no variant {name}; there are: {', '.join(known)}")
        lacks = missing(known[name])
        if lacks:
            print(f"{name}: left out, this machine has no {', '.join(lacks)}", file=sys.stderr)
        else:
            chosen.append(known[name])
    if os.geteuid() != 0:
        parser.error("needs root, for network namespaces")
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        sys.exit(f"run.py: this machine has no {', '.join(absent)}")

    # Namespaces and processes go when the program is told to end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    built = os.path.join(ROOT, "target/e2e-pps")
    os.makedirs(os.path.dirname(built), exist_ok=True)
    run("cc", "-O2", "-pthread", "-o", built, os.path.join(HERE, "pps.c"))
    about = machine()
    come_first()
    try:
        # Before anything is measured: it may be a place that cannot be written.
        out = open(options.out, "a")
    except OSError as error:
        sys.exit(f"run.py: cannot write {options.out}: {error.strerror}")
    try:
        for number in range(1, options.rounds + 1):
            for variant in chosen:
                with Topology(variant, options.underlay, not options.no_pin) as top:
                    result = measure(top, options, built)
                line = {
                    "round": number, "variant": variant.name, "underlay": options.underlay,
                    "pinned": not options.no_pin, "seconds": options.seconds, **result, **about,
                }
                out.write(json.dumps(line) + "\n")
                out.flush()
                shown = {phase: result.get(phase) for phase in phases}
                print(f"round {number} {variant.name} {options.underlay}: {json.dumps(shown)}", file=sys.stderr)
    except Failed as error:
        sys.exit(f"run.py: {error}")
    except OSError as error:
        sys.exit(f"run.py: {error.filename or options.out}: {error.strerror}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
