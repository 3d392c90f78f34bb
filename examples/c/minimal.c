/* The smallest host: one VNI, one pod, one VTEP, one frame from the pod. */
#include <overlane.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    static const uint8_t frame[] = "\x02\0\0\0\0\2\x02\0\0\0\0\1\x88\xb5hello";
    overlane_engine *engine;
    overlane_config config;
    overlane_port_config port;
    overlane_vtep_config vtep;
    uint16_t pod, peer;
    uint8_t memory[256] = {0};
    overlane_desc desc = {OVERLANE_HEADROOM, sizeof frame, 0, 0, 0, 0};

    memcpy(memory + OVERLANE_HEADROOM, frame, sizeof frame);
    overlane_config_init(&config, sizeof config);
    memcpy(config.local_v4, "\xc0\x00\x02\x01", 4); /* 192.0.2.1 */
    memcpy(config.seed, "16 random octets", 16);    /* take them from getrandom(2) */
    overlane_port_config_init(&port, sizeof port);
    port.vni = 42;
    overlane_vtep_config_init(&vtep, sizeof vtep);
    vtep.addr.family = OVERLANE_FAMILY_IPV4;
    memcpy(vtep.addr.bytes, "\xc0\x00\x02\x02", 4); /* 192.0.2.2 */
    if (overlane_engine_new(&config, NULL, &engine, NULL, 0) || overlane_vni_add(engine, 42, NULL) ||
        overlane_port_add(engine, &port, &pod) || overlane_vtep_add(engine, &vtep, &peer) ||
        overlane_mac_add(engine, 0, 42, frame, OVERLANE_AT_VTEP, peer, OVERLANE_MAC_STATIC) ||
        overlane_encap_arena(engine, 0, pod, memory, sizeof memory, OVERLANE_HEADROOM, &desc, NULL, 1))
        return 1;
    printf("verdict %d: send %u octets at offset %u to VTEP %d\n", desc.verdict, (unsigned)desc.len,
           (unsigned)desc.offset, desc.target);
    return overlane_engine_free(engine);
}
