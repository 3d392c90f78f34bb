/*
 * Two workers with an engine each, as the README says: the same changes to both, and what one
 * learns is told to the other. VTEPs come by themselves, so that their ids are not the same.
 */
#include <overlane.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VNI = 42, MINUTE = 60000 };

static void is(int line, const char *what, int32_t got, int32_t want)
{
    if (got != want) {
        printf("line %d: %s: %d, not %d\n", line, what, (int)got, (int)want);
        exit(1);
    }
}

#define IS(want, call) is(__LINE__, #call, (call), (want))

static overlane_engine *worker(void)
{
    overlane_engine *engine;
    overlane_config config;
    overlane_vni_config vni;
    overlane_port_config port;
    uint16_t pod;

    overlane_config_init(&config, sizeof config);
    memcpy(config.local_v4, "\xc0\x00\x02\x01", 4);
    memcpy(config.seed, "any seed will do", 16);
    overlane_vni_config_init(&vni, sizeof vni);
    vni.accept = OVERLANE_ACCEPT_ANY;
    overlane_port_config_init(&port, sizeof port);
    port.vni = VNI;
    IS(OVERLANE_OK, overlane_engine_new(&config, NULL, &engine, NULL, 0));
    IS(OVERLANE_OK, overlane_vni_add(engine, VNI, &vni));
    IS(OVERLANE_OK, overlane_port_add(engine, &port, &pod));
    return engine;
}

/* A broadcast of station `mac` behind VTEP 192.0.2.`vtep`. */
static void receive(overlane_engine *engine, uint64_t now, uint8_t vtep, uint8_t mac)
{
    uint8_t packet[8 + 60] = {8, 0, 0, 0, 0, 0, VNI, 0, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0x88, 0xb5};
    overlane_addr source = {{192, 0, 2, 0}, OVERLANE_FAMILY_IPV4, {0, 0, 0}};
    overlane_desc desc = {0, sizeof packet, 0, 0, 0, 0};

    packet[19] = mac;
    source.bytes[3] = vtep;
    IS(OVERLANE_OK, overlane_decap_arena(engine, now, packet, sizeof packet, &desc, NULL, 1, &source));
    IS(OVERLANE_VERDICT_FLOOD, desc.verdict);
}

/* The id that a place of one engine has in another. */
static uint16_t place(overlane_engine *from, overlane_engine *to, uint8_t at_kind, uint16_t at)
{
    overlane_vtep_info info;
    overlane_vtep_config config;
    uint16_t id;

    if (at_kind == OVERLANE_AT_PORT)
        return at;
    info.size = sizeof info;
    IS(OVERLANE_OK, overlane_vtep_get(from, at, &info));
    if (overlane_vtep_find(to, &info.addr, &id) != OVERLANE_OK) {
        overlane_vtep_config_init(&config, sizeof config);
        config.addr = info.addr;
        config.port = info.port;
        IS(OVERLANE_OK, overlane_vtep_add(to, &config, &id));
    }
    return id;
}

/* Tells `other` what `engine` has learned, and `engine` what it has forgotten and `other` knows. */
static void share(overlane_engine *engine, overlane_engine *other, uint64_t now)
{
    overlane_event event;
    overlane_mac_entry entry;

    event.size = sizeof event;
    entry.size = sizeof entry;
    while (overlane_event_poll(engine, &event) == OVERLANE_OK) {
        if (event.kind == OVERLANE_EVENT_LEARNED || event.kind == OVERLANE_EVENT_MOVED) {
            IS(OVERLANE_OK, overlane_mac_add(other, now, event.vni, event.mac, event.at_kind,
                                             place(engine, other, event.at_kind, event.at), OVERLANE_MAC_LEARNED));
        } else if (event.kind == OVERLANE_EVENT_AGED &&
                   overlane_mac_get(other, now, event.vni, event.mac, &entry) == OVERLANE_OK) {
            IS(OVERLANE_OK, overlane_mac_add(engine, entry.last_seen_ms, event.vni, event.mac, entry.at_kind,
                                             place(other, engine, entry.at_kind, entry.at), entry.kind));
        }
    }
}

/* The last octet of the VTEP's address behind which an engine has a station; 0 where it has it not. */
static uint8_t behind(overlane_engine *engine, uint64_t now, uint8_t mac)
{
    uint8_t octets[6] = {2, 0, 0, 0, 0, 0};
    overlane_mac_entry entry;
    overlane_vtep_info info;

    octets[5] = mac;
    entry.size = sizeof entry;
    info.size = sizeof info;
    if (overlane_mac_get(engine, now, VNI, octets, &entry) != OVERLANE_OK)
        return 0;
    IS(OVERLANE_AT_VTEP, entry.at_kind);
    IS(OVERLANE_OK, overlane_vtep_get(engine, entry.at, &info));
    return info.addr.bytes[3];
}

int main(void)
{
    overlane_engine *a = worker(), *b = worker();
    uint64_t now = 1000, deadline;

    IS(OVERLANE_OK, overlane_next_timeout(a, &deadline));
    IS(1, deadline == OVERLANE_NEVER);

    /* Each meets another VTEP first, and gives it the id 0. */
    receive(a, now, 7, 1);
    receive(b, now, 8, 2);
    share(a, b, now);
    share(b, a, now);
    IS(7, behind(a, now, 1));
    IS(7, behind(b, now, 1));
    IS(8, behind(a, now, 2));
    IS(8, behind(b, now, 2));

    /* Station 1 moves; only one worker sees it. */
    receive(a, now, 9, 1);
    share(a, b, now);
    share(b, a, now);
    IS(9, behind(b, now, 1));

    /* Only one worker hears station 1 from now on, and none hears station 2. */
    for (; now < 12 * MINUTE; now += MINUTE) {
        receive(a, now, 9, 1);
        IS(OVERLANE_OK, overlane_handle_timeout(a, now, 0xffffffff, NULL));
        IS(OVERLANE_OK, overlane_handle_timeout(b, now, 0xffffffff, NULL));
        share(a, b, now);
        share(b, a, now);
        IS(9, behind(a, now, 1));
        IS(9, behind(b, now, 1));
    }
    IS(0, behind(a, now, 2));
    IS(0, behind(b, now, 2));

    /* Without an address there still is a VTEP that came by itself, to be forgotten in time. */
    IS(OVERLANE_OK, overlane_mac_flush(a, OVERLANE_NONE, OVERLANE_AT_NONE, 0, NULL));
    IS(OVERLANE_OK, overlane_next_timeout(a, &deadline));
    IS(0, deadline == OVERLANE_NEVER);
    for (; now < 24 * MINUTE; now += MINUTE)
        IS(OVERLANE_OK, overlane_handle_timeout(a, now, 0xffffffff, NULL));
    IS(OVERLANE_OK, overlane_next_timeout(a, &deadline));
    IS(1, deadline == OVERLANE_NEVER);

    IS(OVERLANE_OK, overlane_engine_free(a));
    IS(OVERLANE_OK, overlane_engine_free(b));
    printf("workers: ok\n");
    return 0;
}
