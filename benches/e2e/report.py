#!/usr/bin/env python3
"""Lines of run.py as tables and a chart.

    benches/e2e/report.py docs/data/e2e.jsonl                    # Markdown on stdout
    benches/e2e/report.py docs/data/e2e.jsonl --chart docs/e2e.svg

Figures are medians over the rounds; a ratio is that of two medians of the same file and underlay, and what
stands behind it in brackets is the least and the greatest ratio of one round's two figures.
"""

import argparse
import json
import signal
import sys
from statistics import median

BASELINE = "kernel-vxlan"
USERSPACE = ("flannel-udp", "ovs-netdev", "fastd-null")

# (what, underlay, phase, field, goal, whether less is better)
GOALS = (
    ("TCP, 1 stream", "wire", "tcp1", "gbps", 0.80, False),
    ("TCP, 4 streams", "wire", "tcp4", "gbps", 0.70, False),
    ("TCP, 1 stream", "veth", "tcp1", "gbps", 0.90, False),
    ("TCP, 4 streams", "veth", "tcp4", "gbps", 0.48, False),
    ("64-octet frames per second, two senders", "wire", "pps", "received_pps", 1.0, False),
    ("round trip, median", "wire", "rtt", "p50_us", 1.25, True),
    ("round trip, 99th percentile", "wire", "rtt", "p99_us", 1.3, True),
)


class Rounds:
    """Every line, to be asked for one figure of one variant."""

    def __init__(self, paths):
        self.lines = []
        for path in paths:
            try:
                with open(path) as lines:
                    self.lines += [json.loads(line) for line in lines if line.strip()]
            except OSError as error:
                sys.exit(f"report.py: cannot read {path}: {error.strerror}")
            except ValueError:
                sys.exit(f"report.py: {path}: not the lines that run.py writes")
        if not self.lines:
            sys.exit("report.py: no lines")

    def figures(self, variant, underlay, phase, field):
        """By round."""
        found = {}
        for line in self.lines:
            if line["variant"] == variant and line["underlay"] == underlay:
                value = (line.get(phase) or {}).get(field)
                if value:
                    found.setdefault(line["round"], []).append(value)
        return {number: median(values) for number, values in found.items()}

    def median(self, *what):
        figures = self.figures(*what)
        return median(figures.values()) if figures else None

    def ratio(self, ours, theirs, underlay, phase, field):
        """(ratio of the medians, least, greatest, rounds), or nothing where one of them was not measured."""
        a, b = (self.figures(v, underlay, phase, field) for v in (ours, theirs))
        both = [a[number] / b[number] for number in a if number in b]
        if not both:
            return None
        return median(a.values()) / median(b.values()), min(both), max(both), len(both)

    def peak_rss_mib(self, variant, underlay):
        peaks = [l.get("peak_rss_kib") or 0 for l in self.lines if (l["variant"], l["underlay"]) == (variant, underlay)]
        return max(peaks, default=0) / 1024 or None

    def variants(self, underlay):
        return list(dict.fromkeys(l["variant"] for l in self.lines if l["underlay"] == underlay))

    def ours(self, underlay):
        """The variant that stands for overlane: the default rung, or the only one measured."""
        present = [v for v in self.variants(underlay) if v.startswith("overlane")]
        return "overlane" if "overlane" in present else (present[-1] if present else None)


def shown(value, form="{:.2f}"):
    return "-" if value is None else form.format(value)


def goal_rows(rounds):
    """(what, ratio tuple or value, goal, met)."""
    rows = []
    for what, underlay, phase, field, goal, less in GOALS:
        ours = rounds.ours(underlay)
        ratio = rounds.ratio(ours, BASELINE, underlay, phase, field) if ours else None
        if ratio:
            met = ratio[0] <= goal if less else ratio[0] >= goal
            rows.append((f"{what}, {underlay}, x {BASELINE}", ratio, goal, less, met))
    ours = rounds.ours("wire")
    for peer in USERSPACE if ours else ():
        ratio = rounds.ratio(ours, peer, "wire", "tcp1", "gbps")
        if ratio:
            rows.append((f"TCP, 1 stream, wire, x {peer}", ratio, 7.0, False, ratio[0] >= 7))
    cost = rounds.median(ours, "wire", "tcp1", "endpoint_s_per_gb") if ours else None
    if cost:
        rows.append(("processor seconds per GB, both endpoints, TCP, 1 stream, wire", (cost,), 1.9, True, cost <= 1.9))
    full = "overlane-full-tables"
    for phase, streams in (("tcp1", "1 stream"), ("tcp4", "4 streams")) if ours else ():
        ratio = rounds.ratio(full, ours, "wire", phase, "gbps")
        if ratio:
            rows.append((f"TCP, {streams}, wire, 1,000 VTEPs and 64 k addresses, x one of each", ratio, 0.97, False, ratio[0] >= 0.97))
    peak = rounds.peak_rss_mib(full, "wire")
    if peak:
        rows.append(("peak RSS in MiB, 1,000 VTEPs and 64 k addresses", (peak,), 16, True, peak <= 16))
    return rows


def markdown(rounds):
    out = ["| row | measured | goal | |", "|---|---|---|---|"]
    for what, value, goal, less, met in goal_rows(rounds):
        figure = f"{value[0]:.2f}"
        if len(value) > 1:
            figure += f" ({value[1]:.2f}-{value[2]:.2f}, {value[3]} rounds)"
        out.append(f"| {what} | {figure} | {'<=' if less else '>='} {goal} | {'met' if met else 'missed'} |")
    for underlay in ("wire", "veth"):
        variants = rounds.variants(underlay)
        if not variants:
            continue
        out += ["", f"Underlay `{underlay}`, medians:", "",
                "| variant | TCP 1, Gbit/s | TCP 4, Gbit/s | 64-octet frames, kpps | offered | round trip p50 / p99, us | endpoint s per GB | peak RSS, MiB |",
                "|---|---|---|---|---|---|---|---|"]
        for v in variants:
            def at(phase, field, scale=1.0, v=v, underlay=underlay):
                value = rounds.median(v, underlay, phase, field)
                return None if value is None else value / scale
            out.append("| " + " | ".join([
                v, shown(at("tcp1", "gbps")), shown(at("tcp4", "gbps")),
                shown(at("pps", "received_pps", 1e3), "{:.0f}"), shown(at("pps", "offered_pps", 1e3), "{:.0f}"),
                f"{shown(at('rtt', 'p50_us'), '{:.1f}')} / {shown(at('rtt', 'p99_us'), '{:.1f}')}",
                shown(at("tcp1", "endpoint_s_per_gb")), shown(rounds.peak_rss_mib(v, underlay), "{:.1f}"),
            ]) + " |")
    first = rounds.lines[0]
    out += ["", f"{first['processor']}, {first['processors']} processors, Linux {first['kernel']}."]
    return "\n".join(out)


def chart(rounds):
    """TCP and packet rate of every variant on the wire underlay, in parts of the baseline's."""
    groups = (("TCP, 1 stream", "tcp1", "gbps"), ("TCP, 4 streams", "tcp4", "gbps"), ("64-octet frames", "pps", "received_pps"))
    bars = []
    for title, phase, field in groups:
        bars.append((title, None, None))
        for v in rounds.variants("wire"):
            ratio = rounds.ratio(v, BASELINE, "wire", phase, field)
            if ratio:
                bars.append((v, ratio[0], rounds.median(v, "wire", phase, field)))
    left, unit, row, top = 190, 420, 22, 66
    height = top + row * len(bars) + 16
    first = rounds.lines[0]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="900" height="{height}" fill="#ffffff"/>', '<g fill="#1b1f24">',
        '<text x="16" y="26" font-size="17" font-weight="bold">Between two pods, in parts of the kernel\'s vxlan device (longer is faster)</text>',
        f'<text x="16" y="46">wire underlay, one processor per host; {first["processor"]}; Linux {first["kernel"]}</text>',
    ]
    for i, (name, ratio, value) in enumerate(bars):
        y = top + row * i
        if ratio is None:
            out.append(f'<text x="16" y="{y + 15}" font-weight="bold">{name}</text>')
            continue
        colour = "#2e7d4f" if name.startswith("overlane") else "#7a8794"
        text = f"{value:.2f} Gbit/s" if value < 1000 else f"{value / 1000:.0f} kpps"
        out += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{min(ratio, 1.45) * unit:.1f}" height="15" fill="{colour}"/>',
            f'<text x="{left + min(ratio, 1.45) * unit + 6:.1f}" y="{y + 14}">{ratio:.2f}  {text}</text>',
        ]
    out += ["</g>", f'<line x1="{left + unit}" y1="{top - 6}" x2="{left + unit}" y2="{height - 10}" stroke="#1b1f24" stroke-dasharray="3 3"/>', "</svg>"]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--chart", help="write an SVG chart of the wire underlay here")
    options = parser.parse_args()
    rounds = Rounds(options.files)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop reading
    print(markdown(rounds))
    if options.chart:
        with open(options.chart, "w") as out:
            out.write(chart(rounds))


if __name__ == "__main__":
    main()
