#!/bin/sh
# Writes what tshark says about the captures here into expected/, one line for each packet.
# `tests/captures.rs` compares it with what overlane says. The committed files are from tshark 4.0.17.
set -eu
cd "$(dirname "$0")"

tail -n +2 SOURCES.tsv | while IFS='	' read -r file _ _ _ _ sha256; do echo "$sha256  $file"; done | sha256sum -c --quiet

text2pcap -q -F pcap -t ISO made.txt made.pcap

mkdir -p expected
for file in *.pcap *.pcapng; do
    # Reassembly off: a fragment is a packet of its own here. Every occurrence of a field is written,
    # from the outside in; frame.protocols says which belongs to which header.
    tshark -n -r "$file" -d udp.port==4789,vxlan -d udp.port==8472,vxlan \
        -o ip.defragment:FALSE -o ipv6.defragment:FALSE \
        -o ip.check_checksum:TRUE -o udp.check_checksum:TRUE \
        -T fields -E header=y -E occurrence=a -E aggregator=, \
        -e frame.number -e frame.protocols -e eth.dst -e eth.src -e eth.type \
        -e vlan.id -e ieee8021ad.id -e vlan.etype \
        -e ip.src -e ip.dst -e ip.proto -e ipv6.src -e ipv6.dst -e ipv6.nxt \
        -e ipv6.hopopts.nxt -e ipv6.routing.nxt -e ipv6.dstopts.nxt -e ipv6.fraghdr.nxt -e ah.next_header \
        -e udp.srcport -e udp.dstport -e vxlan.vni -e vxlan.flags -e vxlan.gbp \
        -e ip.checksum.status -e udp.checksum.status >"expected/$file.tsv"
done
