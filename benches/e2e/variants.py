"""The overlays that can be put between the pods."""

import os
import shutil
import subprocess
import time

from topology import (
    HOSTS, POD_NET, PORT, UNDERLAY_ADDR, UNDERLAY_MTU, VNI, Failed, host, inside, other, run,
)

OVERHEAD_V4 = 50


class Plain:
    """No overlay: the pods are routed over the underlay. The ceiling."""

    name, needs = "plain", ()

    def up(self, top):
        top.make_pods(UNDERLAY_MTU, routed=True)
        for side in HOSTS:
            run("ip", "-n", host(side), "route", "add", POD_NET[other(side)], "via", UNDERLAY_ADDR[other(side)])


class KernelVxlan:
    """The kernel's vxlan device in a bridge, learning, with one VTEP in its flood list: the baseline."""

    name, needs = "kernel-vxlan", ()

    def up(self, top):
        mtu = UNDERLAY_MTU - OVERHEAD_V4
        top.make_pods(mtu)
        for side in HOSTS:
            run("ip", "-n", host(side), "link", "add", "vx0", "mtu", str(mtu), "type", "vxlan", "id", str(VNI),
                "local", UNDERLAY_ADDR[side], "dstport", str(PORT), "dev", "ul")
            run(*inside(host(side), "bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx0",
                        "dst", UNDERLAY_ADDR[other(side)]))
            top.join(side, "vx0", mtu)


class Overlane:
    """`examples/vtep`, a TAP in the bridge. `more` are options for it."""

    needs = ()

    def __init__(self, name, program, more=()):
        self.name, self.program, self.more = name, program, tuple(more)

    def up(self, top):
        if not os.access(self.program, os.X_OK):
            raise Failed(f"no program {self.program}: cargo build --release --example vtep")
        mtu = UNDERLAY_MTU - OVERHEAD_V4
        top.make_pods(mtu)
        for side in HOSTS:
            top.start(side, (
                self.program, "--tap", "tap0", "--vni", str(VNI), *self.options(side),
                "--local", f"{UNDERLAY_ADDR[side]}:{PORT}", "--remote", f"{UNDERLAY_ADDR[other(side)]}:{PORT}",
            ))
            top.wait_for_device(side, "tap0")
            top.join(side, "tap0", mtu)

    def options(self, side):
        return self.more


class FullTables(Overlane):
    """`Overlane` that knows a crowd of VTEPs and of MAC addresses besides the one that matters."""

    VTEPS, MACS = 1000, 65536
    # Each side's remotes are addresses of the other host, on which nobody listens.
    CROWD = {"A": "198.18", "B": "198.19"}

    def up(self, top):
        crowd = os.path.join(os.path.dirname(self.program), os.pardir, "crowd")
        if not os.access(crowd, os.X_OK):
            raise Failed(f"no program {crowd}: cargo build --release -p overlane-testkit")
        for side in HOSTS:
            prefix = self.CROWD[side] + ".0.0/16"
            run("ip", "-n", host(side), "route", "add", prefix, "via", UNDERLAY_ADDR[other(side)])
            run("ip", "-n", host(other(side)), "route", "add", "local", prefix, "dev", "lo")
        super().up(top)
        for side in HOSTS:
            run(*inside(host(other(side)), crowd, f"{UNDERLAY_ADDR[side]}:{PORT}", str(VNI),
                        self.CROWD[side] + ".0.0", str(self.VTEPS - 1), str(self.MACS)))

    def options(self, side):
        remotes = (f"{self.CROWD[side]}.{n >> 8}.{n & 255}" for n in range(1, self.VTEPS))
        return (*self.more, "--macs", str(self.MACS), *(word for addr in remotes for word in ("--remote", addr)))


class OpenVswitch:
    """Open vSwitch with its user-space datapath and a vxlan port; it takes no offloads from the pods."""

    name, needs = "ovs-netdev", ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl")

    def up(self, top):
        top.make_pods(UNDERLAY_MTU - OVERHEAD_V4, offloads=False, bridged=False)
        for side in HOSTS:
            folder = os.path.join(top.state, f"ovs{side}")
            os.mkdir(folder)
            env = {"OVS_RUNDIR": folder, "OVS_LOGDIR": folder, "OVS_DBDIR": folder}
            database, socket = f"{folder}/conf.db", f"unix:{folder}/db.sock"
            run("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
            top.start(side, ("ovsdb-server", database, f"--remote=p{socket}"), count=False, env=env)
            for _ in range(50):
                if os.path.exists(f"{folder}/db.sock"):
                    break
                time.sleep(0.1)

            def control(*command, side=side, env=env, socket=socket):
                full = inside(host(side), "ovs-vsctl", f"--db={socket}", "--timeout=20", *command)
                done = subprocess.run(full, capture_output=True, text=True, env={**os.environ, **env})
                if done.returncode != 0:
                    raise Failed(f"ovs-vsctl {' '.join(command)}: {done.stderr.strip()}")

            control("--no-wait", "init")
            top.start(side, ("ovs-vswitchd", socket), env=env)
            mac = run(*inside(host(side), "cat", "/sys/class/net/ul/address")).strip()
            control("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                    f"other_config:hwaddr={mac}", "--", "add-port", "br-phy", "ul")
            run("ip", "-n", host(side), "addr", "flush", "dev", "ul")
            run("ip", "-n", host(side), "addr", "add", UNDERLAY_ADDR[side] + "/24", "dev", "br-phy")
            run("ip", "-n", host(side), "link", "set", "br-phy", "up")
            control("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                    "--", "add-port", "br0", "pod0", "--", "add-port", "br0", "tun0",
                    "--", "set", "interface", "tun0", "type=vxlan",
                    f"options:remote_ip={UNDERLAY_ADDR[other(side)]}", f"options:key={VNI}")


class Fastd:
    """fastd, TAP mode, without encryption."""

    name, needs = "fastd-null", ("fastd",)

    def up(self, top):
        mtu = UNDERLAY_MTU - OVERHEAD_V4
        top.make_pods(mtu)
        secret = {side: run("fastd", "--generate-key", "--machine-readable").strip() for side in HOSTS}
        for side in HOSTS:
            shown = subprocess.run(
                ("fastd", "--machine-readable", "--show-key", "--config", "-"),
                input=f'secret "{secret[other(side)]}";', capture_output=True, text=True,
            )
            config = os.path.join(top.state, f"fastd{side}.conf")
            with open(config, "w") as out:
                out.write(
                    f'mode tap; interface "tap0"; mtu {mtu}; method "null"; bind {UNDERLAY_ADDR[side]}:10000;\n'
                    f'secret "{secret[side]}"; log level warn; persist interface yes;\n'
                    f'peer "x" {{ key "{shown.stdout.strip()}"; remote {UNDERLAY_ADDR[other(side)]}:10000; }}\n'
                )
            top.start(side, ("fastd", "--config", config))
            top.wait_for_device(side, "tap0")
            top.join(side, "tap0", mtu)


class FlannelUdp:
    """flannel's UDP backend: its C proxy between a TUN device and a socket. FLANNEL_UDP names the program."""

    name = "flannel-udp"

    @property
    def needs(self):
        return (os.environ.get("FLANNEL_UDP", "flannel-udp-proxy"),)

    def up(self, top):
        mtu = UNDERLAY_MTU - 28
        top.make_pods(mtu, routed=True)
        for side in HOSTS:
            own, there = POD_NET[side].split("/")[0], POD_NET[other(side)]
            top.start(side, (*self.needs, "fl0", own, UNDERLAY_ADDR[side], "8285",
                             UNDERLAY_ADDR[other(side)], there, str(mtu)))
            top.wait_for_device(side, "fl0")
            run("ip", "-n", host(side), "addr", "add", own + "/32", "dev", "fl0")
            run("ip", "-n", host(side), "link", "set", "fl0", "mtu", str(mtu), "up")
            run("ip", "-n", host(side), "route", "add", there, "dev", "fl0")


def all_variants(program):
    """Every variant by its name."""
    rungs = {
        "overlane": (),
        "overlane-none": ("--offload", "none"),
        "overlane-batch": ("--offload", "batch"),
        "overlane-gso": ("--offload", "gso"),
        "overlane-tunnel": ("--offload", "tunnel"),
    }
    variants = [Plain(), KernelVxlan(), OpenVswitch(), Fastd(), FlannelUdp()]
    variants += [Overlane(name, program, more) for name, more in rungs.items()]
    variants += [FullTables("overlane-full-tables", program)]
    return {variant.name: variant for variant in variants}


def missing(variant):
    """Programs that the variant needs and that are not here."""
    return [program for program in variant.needs if shutil.which(program) is None]
