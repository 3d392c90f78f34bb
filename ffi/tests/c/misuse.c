/*
 * Everything wrong that a C program can do without lying about its memory: each gets the status
 * that says so, and nothing changes.
 */
#include <overlane.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static overlane_engine *engine;
static int failures;

static void expect(int line, const char *what, int32_t got, int32_t want)
{
    if (got != want) {
        printf("line %d: %s: %d (%s), not %d (%s)\n", line, what, (int)got, overlane_strerror(got), (int)want,
               overlane_strerror(want));
        failures += 1;
    }
}

#define IS(want, call) expect(__LINE__, #call, (call), (want))
#define HOLDS(what) expect(__LINE__, #what, (what) ? 0 : 1, 0)

/* What must not change: the counters and every table. */
static uint64_t fingerprint(void)
{
    uint64_t sum = 0, cursor64 = 0, i;
    uint32_t cursor = 0, vni;
    uint16_t vtep;
    overlane_counters counters;
    overlane_vtep_info v;
    overlane_port_info p;
    overlane_mac_entry m;
    overlane_route r;
    const unsigned char *bytes = (const unsigned char *)&counters;

    counters.size = sizeof counters;
    IS(OVERLANE_OK, overlane_counters_get(engine, &counters));
    for (i = 0; i < sizeof counters; i++)
        sum = sum * 31 + bytes[i];
    while (overlane_vni_next(engine, &cursor, &vni) == OVERLANE_OK)
        sum = sum * 31 + vni;
    for (cursor = 0; overlane_flood_next(engine, 42, &cursor, &vtep) == OVERLANE_OK;)
        sum = sum * 31 + vtep;
    v.size = sizeof v;
    for (cursor = 0; overlane_vtep_next(engine, &cursor, &v) == OVERLANE_OK;)
        sum = sum * 31 + v.id + v.addr.bytes[3] + v.port + v.mtu + v.inner_mac[5];
    p.size = sizeof p;
    for (cursor = 0; overlane_port_next(engine, &cursor, &p) == OVERLANE_OK;)
        sum = sum * 31 + p.id + p.vni + p.peer_mac[5];
    m.size = sizeof m;
    while (overlane_mac_next(engine, &cursor64, &m) == OVERLANE_OK)
        sum = sum * 31 + m.mac[5] + m.at;
    r.size = sizeof r;
    for (cursor = 0; overlane_route_next(engine, 43, &cursor, &r) == OVERLANE_OK;)
        sum = sum * 31 + r.prefix.bytes[0] + r.prefix.len + r.at_kind;
    return sum;
}

static overlane_config good_config(void)
{
    overlane_config config;
    overlane_config_init(&config, sizeof config);
    memcpy(config.local_v4, "\xc0\x00\x02\x01", 4);
    memcpy(config.seed, "any seed will do", 16);
    return config;
}

static overlane_vtep_config good_vtep(uint8_t last)
{
    overlane_vtep_config vtep;
    overlane_vtep_config_init(&vtep, sizeof vtep);
    vtep.addr.family = OVERLANE_FAMILY_IPV4;
    memcpy(vtep.addr.bytes, "\xc0\x00\x02", 3);
    vtep.addr.bytes[3] = last;
    return vtep;
}

static overlane_port_config good_port(uint32_t vni)
{
    overlane_port_config port;
    overlane_port_config_init(&port, sizeof port);
    port.vni = vni;
    return port;
}

static overlane_prefix good_prefix(void)
{
    overlane_prefix prefix;
    memset(&prefix, 0, sizeof prefix);
    prefix.bytes[0] = 10;
    prefix.family = OVERLANE_FAMILY_IPV4;
    prefix.len = 8;
    return prefix;
}

/* No engine, no pointer. */
static void null_everywhere(void)
{
    overlane_engine *none = NULL;
    overlane_config config = good_config();
    overlane_vni_config vni;
    overlane_vtep_config vtep = good_vtep(9);
    overlane_port_config port = good_port(42);
    overlane_prefix prefix = good_prefix();
    overlane_event event;
    overlane_counters counters;
    overlane_traffic traffic;
    overlane_vtep_info vtep_info;
    overlane_port_info port_info;
    overlane_mac_entry entry;
    overlane_route route;
    overlane_replica replica;
    overlane_desc desc = {0, 0, 0, 0, 0, 0};
    uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, arena[64] = {0};
    uint16_t id;
    uint32_t cursor = 0, number;
    uint64_t count64 = 0, cursor64 = 0;
    size_t count;
    char text[8];

    overlane_vni_config_init(&vni, sizeof vni);
    event.size = sizeof event;
    counters.size = sizeof counters;
    traffic.size = sizeof traffic;
    vtep_info.size = sizeof vtep_info;
    port_info.size = sizeof port_info;
    entry.size = sizeof entry;
    route.size = sizeof route;

    IS(OVERLANE_E_NULL, overlane_config_init(NULL, sizeof config));
    IS(OVERLANE_E_NULL, overlane_capacity_init(NULL, sizeof(overlane_capacity)));
    IS(OVERLANE_E_NULL, overlane_vni_config_init(NULL, sizeof vni));
    IS(OVERLANE_E_NULL, overlane_vtep_config_init(NULL, sizeof vtep));
    IS(OVERLANE_E_NULL, overlane_port_config_init(NULL, sizeof port));
    IS(OVERLANE_E_NULL, overlane_engine_new(NULL, NULL, &none, NULL, 0));
    IS(OVERLANE_E_NULL, overlane_engine_new(&config, NULL, NULL, NULL, 0));
    IS(OVERLANE_E_NULL, overlane_engine_new(&config, NULL, &none, NULL, 8));
    HOLDS(none == NULL);
    IS(OVERLANE_OK, overlane_engine_free(NULL));
    HOLDS(overlane_engine_last_error(NULL, text, sizeof text) == 0);

    IS(OVERLANE_E_NULL, overlane_vni_add(NULL, 9, &vni));
    IS(OVERLANE_E_NULL, overlane_vni_set(NULL, 42, &vni));
    IS(OVERLANE_E_NULL, overlane_vni_set(engine, 42, NULL));
    IS(OVERLANE_E_NULL, overlane_vni_remove(NULL, 42));
    IS(OVERLANE_E_NULL, overlane_vtep_add(NULL, &vtep, &id));
    IS(OVERLANE_E_NULL, overlane_vtep_add(engine, NULL, &id));
    IS(OVERLANE_E_NULL, overlane_vtep_add(engine, &vtep, NULL));
    IS(OVERLANE_E_NULL, overlane_vtep_set(NULL, 0, &vtep));
    IS(OVERLANE_E_NULL, overlane_vtep_set(engine, 0, NULL));
    IS(OVERLANE_E_NULL, overlane_vtep_remove(NULL, 0));
    IS(OVERLANE_E_NULL, overlane_port_add(NULL, &port, &id));
    IS(OVERLANE_E_NULL, overlane_port_add(engine, NULL, &id));
    IS(OVERLANE_E_NULL, overlane_port_add(engine, &port, NULL));
    IS(OVERLANE_E_NULL, overlane_port_set(NULL, 0, &port));
    IS(OVERLANE_E_NULL, overlane_port_set(engine, 0, NULL));
    IS(OVERLANE_E_NULL, overlane_port_remove(NULL, 0));
    IS(OVERLANE_E_NULL, overlane_flood_add(NULL, 42, 0));
    IS(OVERLANE_E_NULL, overlane_flood_remove(NULL, 42, 0));
    IS(OVERLANE_E_NULL, overlane_mac_add(NULL, 0, 42, mac, OVERLANE_AT_PORT, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_NULL, overlane_mac_add(engine, 0, 42, NULL, OVERLANE_AT_PORT, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_NULL, overlane_mac_remove(NULL, 42, mac));
    IS(OVERLANE_E_NULL, overlane_mac_remove(engine, 42, NULL));
    IS(OVERLANE_E_NULL, overlane_mac_flush(NULL, OVERLANE_NONE, OVERLANE_AT_NONE, 0, &count64));
    IS(OVERLANE_E_NULL, overlane_route_add(NULL, 43, &prefix, OVERLANE_AT_DIRECT, 0));
    IS(OVERLANE_E_NULL, overlane_route_add(engine, 43, NULL, OVERLANE_AT_DIRECT, 0));
    IS(OVERLANE_E_NULL, overlane_route_remove(NULL, 43, &prefix));
    IS(OVERLANE_E_NULL, overlane_route_remove(engine, 43, NULL));

    IS(OVERLANE_E_NULL, overlane_encap_arena(NULL, 0, 0, arena, sizeof arena, 0, &desc, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_encap_arena(engine, 0, 0, NULL, sizeof arena, 0, &desc, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_encap_arena(engine, 0, 0, arena, sizeof arena, 0, NULL, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_decap_arena(NULL, 0, arena, sizeof arena, &desc, NULL, 1, NULL));
    IS(OVERLANE_E_NULL, overlane_decap_arena(engine, 0, NULL, sizeof arena, &desc, NULL, 1, NULL));
    IS(OVERLANE_E_NULL, overlane_decap_arena(engine, 0, arena, sizeof arena, NULL, NULL, 1, NULL));
    IS(OVERLANE_E_NULL, overlane_encap_buffers(engine, 0, 0, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_decap_buffers(engine, 0, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_replicas(NULL, 42, 0, arena, 14, NULL, &cursor, &replica, 1, &count));
    IS(OVERLANE_E_NULL, overlane_replicas(engine, 42, 0, NULL, 14, NULL, &cursor, &replica, 1, &count));
    IS(OVERLANE_E_NULL, overlane_replicas(engine, 42, 0, arena, 14, NULL, NULL, &replica, 1, &count));
    IS(OVERLANE_E_NULL, overlane_replicas(engine, 42, 0, arena, 14, NULL, &cursor, NULL, 1, &count));
    IS(OVERLANE_E_NULL, overlane_replicas(engine, 42, 0, arena, 14, NULL, &cursor, &replica, 1, NULL));
    IS(OVERLANE_E_NULL, overlane_next_timeout(NULL, &count64));
    IS(OVERLANE_E_NULL, overlane_next_timeout(engine, NULL));
    IS(OVERLANE_E_NULL, overlane_handle_timeout(NULL, 0, 1, NULL));
    IS(OVERLANE_E_NULL, overlane_event_poll(NULL, &event));
    IS(OVERLANE_E_NULL, overlane_event_poll(engine, NULL));
    IS(OVERLANE_E_NULL, overlane_count_drop(NULL, 80, OVERLANE_NONE, OVERLANE_NONE, OVERLANE_NONE));
    IS(OVERLANE_E_NULL, overlane_explain_encap(NULL, 0, 0, arena, 14, text, sizeof text, &count));
    IS(OVERLANE_E_NULL, overlane_explain_encap(engine, 0, 0, NULL, 14, text, sizeof text, &count));
    IS(OVERLANE_E_NULL, overlane_explain_encap(engine, 0, 0, arena, 14, NULL, sizeof text, &count));
    IS(OVERLANE_E_NULL, overlane_explain_decap(NULL, 0, NULL, arena, 14, text, sizeof text, &count));
    IS(OVERLANE_E_NULL, overlane_explain_decap(engine, 0, NULL, NULL, 14, text, sizeof text, &count));

    IS(OVERLANE_E_NULL, overlane_counters_get(NULL, &counters));
    IS(OVERLANE_E_NULL, overlane_counters_get(engine, NULL));
    IS(OVERLANE_E_NULL, overlane_traffic_get(NULL, OVERLANE_SCOPE_PORT, 0, &traffic));
    IS(OVERLANE_E_NULL, overlane_traffic_get(engine, OVERLANE_SCOPE_PORT, 0, NULL));
    IS(OVERLANE_E_NULL, overlane_drops(NULL, OVERLANE_SCOPE_ENGINE, 0, &count64, 1));
    IS(OVERLANE_E_NULL, overlane_drops(engine, OVERLANE_SCOPE_ENGINE, 0, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_punts(NULL, &count64, 1));
    IS(OVERLANE_E_NULL, overlane_punts(engine, NULL, 1));
    IS(OVERLANE_E_NULL, overlane_vni_get(NULL, 42, &vni));
    IS(OVERLANE_E_NULL, overlane_vni_get(engine, 42, NULL));
    IS(OVERLANE_E_NULL, overlane_vni_next(NULL, &cursor, &number));
    IS(OVERLANE_E_NULL, overlane_vni_next(engine, NULL, &number));
    IS(OVERLANE_E_NULL, overlane_vni_next(engine, &cursor, NULL));
    IS(OVERLANE_E_NULL, overlane_vtep_get(NULL, 0, &vtep_info));
    IS(OVERLANE_E_NULL, overlane_vtep_get(engine, 0, NULL));
    IS(OVERLANE_E_NULL, overlane_vtep_find(NULL, &vtep.addr, &id));
    IS(OVERLANE_E_NULL, overlane_vtep_find(engine, NULL, &id));
    IS(OVERLANE_E_NULL, overlane_vtep_find(engine, &vtep.addr, NULL));
    IS(OVERLANE_E_NULL, overlane_vtep_next(NULL, &cursor, &vtep_info));
    IS(OVERLANE_E_NULL, overlane_vtep_next(engine, NULL, &vtep_info));
    IS(OVERLANE_E_NULL, overlane_vtep_next(engine, &cursor, NULL));
    IS(OVERLANE_E_NULL, overlane_port_get(NULL, 0, &port_info));
    IS(OVERLANE_E_NULL, overlane_port_get(engine, 0, NULL));
    IS(OVERLANE_E_NULL, overlane_port_next(NULL, &cursor, &port_info));
    IS(OVERLANE_E_NULL, overlane_port_next(engine, NULL, &port_info));
    IS(OVERLANE_E_NULL, overlane_port_next(engine, &cursor, NULL));
    IS(OVERLANE_E_NULL, overlane_flood_next(NULL, 42, &cursor, &id));
    IS(OVERLANE_E_NULL, overlane_flood_next(engine, 42, NULL, &id));
    IS(OVERLANE_E_NULL, overlane_flood_next(engine, 42, &cursor, NULL));
    IS(OVERLANE_E_NULL, overlane_mac_get(NULL, 0, 42, mac, &entry));
    IS(OVERLANE_E_NULL, overlane_mac_get(engine, 0, 42, NULL, &entry));
    IS(OVERLANE_E_NULL, overlane_mac_get(engine, 0, 42, mac, NULL));
    IS(OVERLANE_E_NULL, overlane_mac_next(NULL, &cursor64, &entry));
    IS(OVERLANE_E_NULL, overlane_mac_next(engine, NULL, &entry));
    IS(OVERLANE_E_NULL, overlane_mac_next(engine, &cursor64, NULL));
    IS(OVERLANE_E_NULL, overlane_route_get(NULL, 43, &prefix, &route));
    IS(OVERLANE_E_NULL, overlane_route_get(engine, 43, NULL, &route));
    IS(OVERLANE_E_NULL, overlane_route_get(engine, 43, &prefix, NULL));
    IS(OVERLANE_E_NULL, overlane_route_lookup(NULL, 43, &vtep.addr, &route));
    IS(OVERLANE_E_NULL, overlane_route_lookup(engine, 43, NULL, &route));
    IS(OVERLANE_E_NULL, overlane_route_lookup(engine, 43, &vtep.addr, NULL));
    IS(OVERLANE_E_NULL, overlane_route_next(NULL, 43, &cursor, &route));
    IS(OVERLANE_E_NULL, overlane_route_next(engine, 43, NULL, &route));
    IS(OVERLANE_E_NULL, overlane_route_next(engine, 43, &cursor, NULL));

    /* Where there is nothing to point to, NULL is no error. */
    IS(OVERLANE_OK, overlane_encap_arena(engine, 0, 0, arena, sizeof arena, 0, NULL, NULL, 0));
    IS(OVERLANE_OK, overlane_encap_buffers(engine, 0, 0, NULL, 0));
    IS(OVERLANE_OK, overlane_mac_flush(engine, 43, OVERLANE_AT_NONE, 0, NULL));
}

/* Sizes of structures, and what lies where they end. */
static void sizes(void)
{
    /* A structure as a newer header would have it: more behind the end. */
    union {
        overlane_vni_config config;
        overlane_counters counters;
        uint8_t bytes[256];
    } newer;
    overlane_engine *made = NULL;
    overlane_config config = good_config();
    overlane_capacity capacity;

    config.size = 0;
    IS(OVERLANE_E_SIZE, overlane_engine_new(&config, NULL, &made, NULL, 0));
    config.size = sizeof config - 1;
    IS(OVERLANE_E_SIZE, overlane_engine_new(&config, NULL, &made, NULL, 0));
    config.size = 0xffffffff;
    IS(OVERLANE_E_SIZE, overlane_engine_new(&config, NULL, &made, NULL, 0));
    IS(OVERLANE_E_SIZE, overlane_config_init(&config, 3));
    overlane_capacity_init(&capacity, sizeof capacity);
    capacity.size = 4;
    config.size = sizeof config;
    IS(OVERLANE_E_SIZE, overlane_engine_new(&config, &capacity, &made, NULL, 0));
    HOLDS(made == NULL);

    memset(&newer, 0xaa, sizeof newer);
    IS(OVERLANE_OK, overlane_vni_config_init(&newer.config, sizeof newer));
    HOLDS(newer.config.size == sizeof newer && newer.bytes[sizeof newer - 1] == 0);
    IS(OVERLANE_OK, overlane_vni_set(engine, 42, &newer.config));
    newer.bytes[sizeof newer - 1] = 1;
    IS(OVERLANE_E_RESERVED, overlane_vni_set(engine, 42, &newer.config));

    memset(&newer, 0xaa, sizeof newer);
    newer.counters.size = sizeof newer;
    IS(OVERLANE_OK, overlane_counters_get(engine, &newer.counters));
    HOLDS(newer.counters.size == sizeof newer.counters && newer.bytes[sizeof newer.counters] == 0xaa);
    newer.counters.size = 8;
    IS(OVERLANE_E_SIZE, overlane_counters_get(engine, &newer.counters));
}

/* Settings that make no engine. */
static void configurations(void)
{
    overlane_engine *made = (overlane_engine *)&made;
    overlane_config config;
    overlane_capacity capacity;
    char text[64];

#define REFUSED(status, field, value)                                              \
    do {                                                                           \
        config = good_config();                                                    \
        config.field = (value);                                                    \
        IS(status, overlane_engine_new(&config, NULL, &made, text, sizeof text));  \
        HOLDS(made == NULL && text[0] != 0);                                       \
    } while (0)

    config = good_config();
    memset(config.local_v4, 0, sizeof config.local_v4);
    IS(OVERLANE_E_CONFIG_NO_LOCAL, overlane_engine_new(&config, NULL, &made, NULL, 0));
    config = good_config();
    memset(config.seed, 0, sizeof config.seed);
    IS(OVERLANE_E_CONFIG_SEED, overlane_engine_new(&config, NULL, &made, NULL, 0));
    REFUSED(OVERLANE_E_CONFIG_LOCAL_ADDRESS, local_v4[0], 224);
    REFUSED(OVERLANE_E_CONFIG_PORT, port, 0);
    REFUSED(OVERLANE_E_CONFIG_SOURCE_PORTS, source_port_first, 0);
    REFUSED(OVERLANE_E_CONFIG_SOURCE_PORTS, source_port_last, 1);
    REFUSED(OVERLANE_E_CONFIG_LOCAL_MAC, shape, OVERLANE_SHAPE_ETHERNET);
    REFUSED(OVERLANE_E_CONFIG_AGEING, ageing_ms, 0);
    REFUSED(OVERLANE_E_CONFIG_AGEING, ageing_ms, OVERLANE_NEVER);
    REFUSED(OVERLANE_E_CONFIG_TTL, ttl, 0);
    REFUSED(OVERLANE_E_CONFIG_DSCP, dscp, 64);
    REFUSED(OVERLANE_E_VALUE, shape, 3);
    REFUSED(OVERLANE_E_VALUE, checksum_v4, 2);
    REFUSED(OVERLANE_E_VALUE, checksum_v6, 255);
    REFUSED(OVERLANE_E_VALUE, reserved_bits, 3);
    REFUSED(OVERLANE_E_VALUE, dont_fragment, 2);
    REFUSED(OVERLANE_E_VALUE, verify_checksum, 2);
    REFUSED(OVERLANE_E_VALUE, allow_zero_checksum_v6, 2);
    REFUSED(OVERLANE_E_VALUE, group_policy, 2);
    REFUSED(OVERLANE_E_RESERVED, reserved, 1);
#undef REFUSED

    config = good_config();
#define REFUSED(status, field, value)                                              \
    do {                                                                           \
        overlane_capacity_init(&capacity, sizeof capacity);                        \
        capacity.field = (value);                                                  \
        IS(status, overlane_engine_new(&config, &capacity, &made, text, sizeof text)); \
        HOLDS(made == NULL && text[0] != 0);                                       \
    } while (0)
    REFUSED(OVERLANE_E_CONFIG_CAPACITY, vnis, 0);
    REFUSED(OVERLANE_E_CONFIG_CAPACITY, vnis, 0x1000001);
    REFUSED(OVERLANE_E_CONFIG_CAPACITY, vteps, 0);
    REFUSED(OVERLANE_E_CONFIG_CAPACITY, vteps, 65537);
    REFUSED(OVERLANE_E_CONFIG_CAPACITY, ports, 0);
    REFUSED(OVERLANE_E_CONFIG_CAPACITY, ports, 0xffffffff);
#undef REFUSED
}

/* Commands out of order, with ids that are not there and numbers that mean nothing. */
static void commands(void)
{
    overlane_vni_config vni;
    overlane_vtep_config vtep = good_vtep(2);
    overlane_port_config port = good_port(42);
    overlane_prefix prefix = good_prefix();
    overlane_mac_entry entry;
    overlane_traffic traffic;
    overlane_vtep_info vtep_info;
    overlane_route route;
    uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, group[6] = {3, 0, 0, 0, 0, 9};
    uint16_t id = 77;
    char text[256];

    entry.size = sizeof entry;
    traffic.size = sizeof traffic;
    vtep_info.size = sizeof vtep_info;
    route.size = sizeof route;
    overlane_vni_config_init(&vni, sizeof vni);
    IS(OVERLANE_E_VNI_EXISTS, overlane_vni_add(engine, 42, &vni));
    HOLDS(overlane_engine_last_error(engine, text, sizeof text) == strlen("VNI 42 exists already"));
    HOLDS(strcmp(text, "VNI 42 exists already") == 0);
    HOLDS(overlane_engine_last_error(engine, text, 7) == 21 && strcmp(text, "VNI 42") == 0);
    HOLDS(overlane_engine_last_error(engine, NULL, 0) == 21);
    IS(OVERLANE_E_VNI_RANGE, overlane_vni_add(engine, 0x1000000, &vni));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_vni_set(engine, 7, &vni));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_vni_remove(engine, 7));
    IS(OVERLANE_E_VNI_IN_USE, overlane_vni_remove(engine, 42));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_vni_get(engine, 7, &vni));
    vni.mode = OVERLANE_MODE_ROUTED;
    IS(OVERLANE_E_VNI_ROUTER_MAC, overlane_vni_add(engine, 7, &vni));
    vni.mode = 2;
    IS(OVERLANE_E_VALUE, overlane_vni_add(engine, 7, &vni));
    overlane_vni_config_init(&vni, sizeof vni);
    vni.accept = 9;
    IS(OVERLANE_E_VALUE, overlane_vni_add(engine, 7, &vni));
    overlane_vni_config_init(&vni, sizeof vni);
    vni.learning = 2;
    IS(OVERLANE_E_VALUE, overlane_vni_add(engine, 7, &vni));
    overlane_vni_config_init(&vni, sizeof vni);
    vni.reserved = 1;
    IS(OVERLANE_E_RESERVED, overlane_vni_add(engine, 7, &vni));

    IS(OVERLANE_E_VTEP_EXISTS, overlane_vtep_add(engine, &vtep, &id));
    HOLDS(id == 77);
    IS(OVERLANE_E_VTEP_UNKNOWN, overlane_vtep_set(engine, 9, &vtep));
    IS(OVERLANE_E_VTEP_UNKNOWN, overlane_vtep_remove(engine, 9));
    IS(OVERLANE_E_VTEP_UNKNOWN, overlane_vtep_get(engine, 65535, &vtep_info));
    IS(OVERLANE_E_VTEP_IN_USE, overlane_vtep_remove(engine, 0));
    vtep = good_vtep(1);
    IS(OVERLANE_E_VTEP_ADDRESS, overlane_vtep_add(engine, &vtep, &id));
    IS(OVERLANE_E_VTEP_UNKNOWN, overlane_vtep_find(engine, &vtep.addr, &id));
    vtep = good_vtep(3);
    vtep.port = 0;
    IS(OVERLANE_E_VTEP_PORT, overlane_vtep_add(engine, &vtep, &id));
    vtep = good_vtep(3);
    vtep.mtu = 127;
    IS(OVERLANE_E_VTEP_MTU, overlane_vtep_add(engine, &vtep, &id));
    vtep = good_vtep(3);
    memcpy(vtep.inner_mac, group, 6);
    IS(OVERLANE_E_VTEP_INNER_MAC, overlane_vtep_add(engine, &vtep, &id));
    vtep = good_vtep(3);
    vtep.addr.family = OVERLANE_FAMILY_IPV6;
    IS(OVERLANE_E_VTEP_FAMILY, overlane_vtep_add(engine, &vtep, &id));
    vtep.addr.family = OVERLANE_FAMILY_NONE;
    IS(OVERLANE_E_VALUE, overlane_vtep_add(engine, &vtep, &id));
    vtep.addr.family = 10; /* AF_INET6 */
    IS(OVERLANE_E_VALUE, overlane_vtep_add(engine, &vtep, &id));
    vtep = good_vtep(3);
    vtep.addr.reserved[2] = 1;
    IS(OVERLANE_E_RESERVED, overlane_vtep_add(engine, &vtep, &id));

    port.vni = 7;
    IS(OVERLANE_E_PORT_NO_VNI, overlane_port_add(engine, &port, &id));
    port.vni = OVERLANE_NONE;
    IS(OVERLANE_E_VNI_RANGE, overlane_port_add(engine, &port, &id));
    port = good_port(42);
    memcpy(port.peer_mac, group, 6);
    IS(OVERLANE_E_PORT_PEER_MAC, overlane_port_add(engine, &port, &id));
    port = good_port(43);
    IS(OVERLANE_E_PORT_OTHER_VNI, overlane_port_set(engine, 0, &port));
    IS(OVERLANE_E_PORT_UNKNOWN, overlane_port_set(engine, 9, &port));
    IS(OVERLANE_E_PORT_UNKNOWN, overlane_port_remove(engine, 9));

    IS(OVERLANE_E_FLOOD_EXISTS, overlane_flood_add(engine, 42, 0));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_flood_add(engine, 7, 0));
    IS(OVERLANE_E_VTEP_UNKNOWN, overlane_flood_add(engine, 42, 9));
    IS(OVERLANE_E_FLOOD_UNKNOWN, overlane_flood_remove(engine, 43, 0));

    IS(OVERLANE_E_MAC_NOT_UNICAST, overlane_mac_add(engine, 0, 42, group, OVERLANE_AT_PORT, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_MAC_NO_DESTINATION, overlane_mac_add(engine, 0, 42, mac, OVERLANE_AT_PORT, 9, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_MAC_OTHER_VNI, overlane_mac_add(engine, 0, 43, mac, OVERLANE_AT_PORT, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_mac_add(engine, 0, 7, mac, OVERLANE_AT_PORT, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_VALUE, overlane_mac_add(engine, 0, 42, mac, OVERLANE_AT_NONE, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_VALUE, overlane_mac_add(engine, 0, 42, mac, OVERLANE_AT_DIRECT, 0, OVERLANE_MAC_STATIC));
    IS(OVERLANE_E_VALUE, overlane_mac_add(engine, 0, 42, mac, OVERLANE_AT_PORT, 0, 3));
    IS(OVERLANE_E_MAC_UNKNOWN, overlane_mac_remove(engine, 42, mac));
    IS(OVERLANE_E_MAC_UNKNOWN, overlane_mac_get(engine, 0, 42, mac, &entry));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_mac_get(engine, 0, 7, mac, &entry));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_mac_flush(engine, 7, OVERLANE_AT_NONE, 0, NULL));
    IS(OVERLANE_E_MAC_NO_DESTINATION, overlane_mac_flush(engine, 42, OVERLANE_AT_VTEP, 9, NULL));
    IS(OVERLANE_E_VALUE, overlane_mac_flush(engine, 42, 200, 9, NULL));

    IS(OVERLANE_E_ROUTE_NOT_ROUTED, overlane_route_add(engine, 42, &prefix, OVERLANE_AT_DIRECT, 0));
    IS(OVERLANE_E_ROUTE_NOT_ROUTED, overlane_route_get(engine, 42, &prefix, &route));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_route_add(engine, 7, &prefix, OVERLANE_AT_DIRECT, 0));
    IS(OVERLANE_E_ROUTE_NO_NEXT_HOP, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_VTEP, 9));
    IS(OVERLANE_E_ROUTE_OTHER_VNI, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_PORT, 0));
    IS(OVERLANE_E_VALUE, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_NONE, 0));
    IS(OVERLANE_E_VALUE, overlane_route_add(engine, 43, &prefix, 255, 0));
    IS(OVERLANE_E_ROUTE_NO_VTEP_MAC, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_VTEP, 1));
    prefix.bytes[3] = 1;
    IS(OVERLANE_E_ROUTE_PREFIX, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_DIRECT, 0));
    prefix = good_prefix();
    prefix.len = 33;
    IS(OVERLANE_E_ROUTE_PREFIX, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_DIRECT, 0));
    prefix = good_prefix();
    prefix.family = 0;
    IS(OVERLANE_E_VALUE, overlane_route_remove(engine, 43, &prefix));
    prefix = good_prefix();
    prefix.bytes[0] = 11;
    IS(OVERLANE_E_ROUTE_UNKNOWN, overlane_route_remove(engine, 43, &prefix));

    IS(OVERLANE_E_VALUE, overlane_traffic_get(engine, OVERLANE_SCOPE_ENGINE, 0, &traffic));
    IS(OVERLANE_E_VALUE, overlane_traffic_get(engine, 9, 0, &traffic));
    IS(OVERLANE_E_VALUE, overlane_traffic_get(engine, OVERLANE_SCOPE_PORT, 65536, &traffic));
    IS(OVERLANE_E_PORT_UNKNOWN, overlane_traffic_get(engine, OVERLANE_SCOPE_PORT, 9, &traffic));
    IS(OVERLANE_E_VTEP_UNKNOWN, overlane_traffic_get(engine, OVERLANE_SCOPE_VTEP, 9, &traffic));
    IS(OVERLANE_E_VNI_UNKNOWN, overlane_traffic_get(engine, OVERLANE_SCOPE_VNI, 7, &traffic));
    IS(OVERLANE_E_VALUE, overlane_count_drop(engine, 0, OVERLANE_NONE, OVERLANE_NONE, OVERLANE_NONE));
    IS(OVERLANE_E_VALUE, overlane_count_drop(engine, 80, OVERLANE_NONE, 65536, OVERLANE_NONE));
    IS(OVERLANE_E_VNI_RANGE, overlane_count_drop(engine, 80, 0x1000000, OVERLANE_NONE, OVERLANE_NONE));
}

/* Packets that do not lie where they are said to. */
static void packets(void)
{
    enum { LEN = 512 };
    uint64_t words[LEN / 8 + 4];
    uint8_t *arena = (uint8_t *)(words + 2);
    uint8_t *all = (uint8_t *)words;
    overlane_desc desc[2], before[2];
    overlane_meta meta[2];
    overlane_buffer buffer, kept;
    overlane_addr source;
    overlane_replica replica;
    uint32_t cursor = 0;
    size_t count = 7;
    static const struct {
        uint32_t offset, len, headroom;
    } bad[] = {
        {LEN, 1, 0},          {0, LEN + 1, 0},        {1, LEN, 0},           {0xffffffff, 1, 0},
        {0, 0xffffffff, 0},   {0xffffffff, 0xffffffff, 0}, {64, 20, 65},     {0, 20, 72},
        {72, LEN - 71, 72},   {100, 20, 0xffffffff},
    };
    size_t i;

    memset(words, 0x5a, sizeof words);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(desc, 0, sizeof desc);
        desc[0].offset = desc[1].offset = bad[i].offset;
        desc[0].len = desc[1].len = bad[i].len;
        if (bad[i].headroom <= 72) {
            /* The first is good: it must not be looked at either. */
            desc[0].offset = 72;
            desc[0].len = 20;
        }
        memcpy(before, desc, sizeof desc);
        IS(OVERLANE_E_RANGE, overlane_encap_arena(engine, 0, 0, arena, LEN, bad[i].headroom, desc, NULL, 2));
        if (bad[i].headroom == 0)
            IS(OVERLANE_E_RANGE, overlane_decap_arena(engine, 0, arena, LEN, desc, NULL, 2, NULL));
        HOLDS(memcmp(desc, before, sizeof desc) == 0);
    }
    desc[0].offset = 72;
    desc[0].len = 20;
    desc[1] = desc[0];
    IS(OVERLANE_E_PORT_UNKNOWN, overlane_encap_arena(engine, 0, 9, arena, LEN, 72, desc, NULL, 2));
    IS(OVERLANE_E_PORT_UNKNOWN, overlane_encap_arena(engine, 0, 9, arena, LEN, 72, NULL, NULL, 0));
    IS(OVERLANE_E_LENGTH, overlane_encap_arena(engine, 0, 0, arena, LEN, 72, desc, NULL, (size_t)-1));
    IS(OVERLANE_E_LENGTH, overlane_encap_arena(engine, 0, 0, arena, (size_t)-1, 72, desc, NULL, 1));
    IS(OVERLANE_E_LENGTH, overlane_encap_buffers(engine, 0, 0, &buffer, (size_t)-1 / 16));
    IS(OVERLANE_E_ALIGN, overlane_encap_arena(engine, 0, 0, arena, LEN, 72, (overlane_desc *)(all + 1), NULL, 1));
    IS(OVERLANE_E_ALIGN, overlane_vni_set(engine, 42, (const overlane_vni_config *)(all + 2)));
    IS(OVERLANE_E_ALIGN, overlane_vni_remove((overlane_engine *)(all + 3), 42));
    IS(OVERLANE_E_ALIGN, overlane_engine_free((overlane_engine *)(all + 3)));

    memset(meta, 0, sizeof meta);
    meta[1].reserved = 1;
    IS(OVERLANE_E_RESERVED, overlane_encap_arena(engine, 0, 0, arena, LEN, 72, desc, meta, 2));
    meta[1].reserved = 0;
    meta[1].group_flags = 8;
    IS(OVERLANE_E_VALUE, overlane_encap_arena(engine, 0, 0, arena, LEN, 72, desc, meta, 2));
    meta[1].group_flags = OVERLANE_GROUP_APPLIED;
    IS(OVERLANE_E_VALUE, overlane_encap_arena(engine, 0, 0, arena, LEN, 72, desc, meta, 2));
    meta[1].group_flags = 0;
    meta[1].source.family = 2; /* AF_INET */
    IS(OVERLANE_E_VALUE, overlane_decap_arena(engine, 0, arena, LEN, desc, meta, 2, NULL));
    meta[1].source.family = 0;
    desc[1].ecn = 4;
    IS(OVERLANE_E_VALUE, overlane_decap_arena(engine, 0, arena, LEN, desc, meta, 2, NULL));
    desc[1].ecn = 0;
    memset(&source, 0, sizeof source);
    source.family = 1;
    IS(OVERLANE_E_VALUE, overlane_decap_arena(engine, 0, arena, LEN, desc, meta, 2, &source));

    memset(&buffer, 0, sizeof buffer);
    IS(OVERLANE_E_NULL, overlane_decap_buffers(engine, 0, &buffer, 1));
    buffer.data = arena;
    buffer.capacity = LEN;
    buffer.offset = LEN;
    buffer.len = 1;
    kept = buffer;
    IS(OVERLANE_E_RANGE, overlane_decap_buffers(engine, 0, &buffer, 1));
    buffer.offset = (size_t)-1;
    IS(OVERLANE_E_RANGE, overlane_encap_buffers(engine, 0, 0, &buffer, 1));
    buffer.offset = 0;
    buffer.capacity = (size_t)-1;
    IS(OVERLANE_E_LENGTH, overlane_encap_buffers(engine, 0, 0, &buffer, 1));
    HOLDS(buffer.verdict == kept.verdict && buffer.len == kept.len);

    IS(OVERLANE_E_VNI_UNKNOWN, overlane_replicas(engine, 7, 0, arena, 20, NULL, &cursor, &replica, 1, &count));
    IS(OVERLANE_E_PORT_UNKNOWN, overlane_replicas(engine, 42, 9, arena, 20, NULL, &cursor, &replica, 1, &count));
    IS(OVERLANE_E_PORT_OTHER_VNI, overlane_replicas(engine, 43, 0, arena, 20, NULL, &cursor, &replica, 1, &count));
    IS(OVERLANE_E_VALUE, overlane_replicas(engine, 42, 65536, arena, 20, NULL, &cursor, &replica, 1, &count));
    HOLDS(count == 7 && cursor == 0);
    cursor = 0xffffffff;
    IS(OVERLANE_OK, overlane_replicas(engine, 42, 0, arena, 20, NULL, &cursor, &replica, 1, &count));
    HOLDS(count == 0);
    cursor = 0;
    IS(OVERLANE_OK, overlane_replicas(engine, 42, 0, NULL, 0, NULL, &cursor, NULL, 0, &count));
    HOLDS(count == 0);

    for (i = 0; i < sizeof words; i++)
        HOLDS(all[i] == 0x5a);
}

/* Packets on top of each other, and descriptors in the arena: nonsense out, and no harm done. */
static void overlaps(void)
{
    enum { LEN = 512, PACKETS = 70 };
    uint64_t words[LEN / 8 + 4];
    uint8_t *arena = (uint8_t *)(words + 2);
    overlane_desc desc[PACKETS];
    overlane_buffer buffer[3];
    size_t i;

    memset(words, 0, sizeof words);
    memset(words, 0x5a, 16);
    memset(words + LEN / 8 + 2, 0x5a, 16);
    memset(arena + 72, 0xff, 6); /* a broadcast, and not at every offset */
    memset(desc, 0, sizeof desc);
    for (i = 0; i < PACKETS; i++) {
        desc[i].offset = (uint32_t)(72 + (i * 37) % 90);
        desc[i].len = (uint32_t)(i * 5);
    }
    IS(OVERLANE_OK, overlane_encap_arena(engine, 0, 0, arena, LEN, 72, desc, NULL, PACKETS));
    for (i = 0; i < PACKETS; i++)
        HOLDS(desc[i].verdict != OVERLANE_VERDICT_NONE && desc[i].offset + desc[i].len <= LEN);
    IS(OVERLANE_OK, overlane_decap_arena(engine, 0, arena, LEN, desc, NULL, PACKETS, NULL));
    for (i = 0; i < PACKETS; i++)
        HOLDS(desc[i].verdict != OVERLANE_VERDICT_NONE && desc[i].offset + desc[i].len <= LEN);
    memset(buffer, 0, sizeof buffer);
    for (i = 0; i < 3; i++) {
        buffer[i].data = arena;
        buffer[i].capacity = LEN;
        buffer[i].offset = 80;
        buffer[i].len = 100;
    }
    IS(OVERLANE_OK, overlane_encap_buffers(engine, 0, 0, buffer, 3));
    HOLDS(buffer[2].verdict != OVERLANE_VERDICT_NONE);
    for (i = 0; i < 16; i++)
        HOLDS(((uint8_t *)words)[i] == 0x5a && arena[LEN + i] == 0x5a);
}

int main(void)
{
    overlane_config config = good_config();
    overlane_vni_config routed;
    overlane_vtep_config vtep;
    overlane_port_config port = good_port(42);
    overlane_prefix prefix = good_prefix();
    uint16_t id;
    uint64_t before;

    IS(OVERLANE_OK, overlane_engine_new(&config, NULL, &engine, NULL, 0));
    IS(OVERLANE_OK, overlane_vni_add(engine, 42, NULL));
    overlane_vni_config_init(&routed, sizeof routed);
    routed.mode = OVERLANE_MODE_ROUTED;
    memcpy(routed.router_mac, "\x02\0\0\0\0\x43", 6);
    IS(OVERLANE_OK, overlane_vni_add(engine, 43, &routed));
    vtep = good_vtep(2);
    memcpy(vtep.inner_mac, "\x02\0\0\0\0\x44", 6);
    IS(OVERLANE_OK, overlane_vtep_add(engine, &vtep, &id));
    vtep = good_vtep(4);
    IS(OVERLANE_OK, overlane_vtep_add(engine, &vtep, &id));
    IS(OVERLANE_OK, overlane_port_add(engine, &port, &id));
    IS(OVERLANE_OK, overlane_flood_add(engine, 42, 0));
    IS(OVERLANE_OK, overlane_mac_add(engine, 0, 42, (const uint8_t *)"\x02\0\0\0\0\x05", OVERLANE_AT_VTEP, 0,
                                     OVERLANE_MAC_STATIC));
    IS(OVERLANE_OK, overlane_route_add(engine, 43, &prefix, OVERLANE_AT_VTEP, 0));

    before = fingerprint();
    null_everywhere();
    sizes();
    configurations();
    commands();
    packets();
    HOLDS(fingerprint() == before);
    overlaps();
    IS(OVERLANE_OK, overlane_engine_free(engine));
    if (failures)
        return 1;
    printf("misuse: ok\n");
    return 0;
}
