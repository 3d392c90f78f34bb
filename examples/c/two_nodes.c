/*
 * Two engines in one process, a pod behind each, and no network between them: what one says is to
 * be sent is handed to the other. A broadcast is flooded, the answer comes back as a unicast, and
 * every octet is compared with what RFC 7348 says it must be.
 */
#include <overlane.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VNI = 42, ARENA = 4096, SLOT = 2048 };

struct node {
    const char *name;
    uint8_t addr[4];
    overlane_engine *engine;
    uint16_t port; /* where the pod is attached */
    uint16_t peer; /* the other node's VTEP */
};

static void fail(const char *what, const struct node *node, int32_t status)
{
    char text[256] = "";
    if (node && node->engine)
        overlane_engine_last_error(node->engine, text, sizeof text);
    fprintf(stderr, "%s: %s: %s (%s)\n", node ? node->name : "", what, overlane_strerror(status), text);
    exit(1);
}

#define TRY(node, call)                      \
    do {                                     \
        int32_t status_ = (call);            \
        if (status_ != OVERLANE_OK)          \
            fail(#call, (node), status_);    \
    } while (0)

static void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "not as it should be: %s\n", what);
        exit(1);
    }
}

static void start(struct node *node, const uint8_t peer[4])
{
    overlane_config config;
    overlane_capacity capacity;
    overlane_vni_config vni;
    overlane_port_config port;
    overlane_vtep_config vtep;
    char error[128];
    int32_t status;

    overlane_config_init(&config, sizeof config);
    memcpy(config.local_v4, node->addr, 4);
    /* In earnest: 16 octets from getrandom(2), so that nobody can choose addresses that collide. */
    memcpy(config.seed, "only for a demo.", 16);
    overlane_capacity_init(&capacity, sizeof capacity);
    capacity.macs = 1024;
    status = overlane_engine_new(&config, &capacity, &node->engine, error, sizeof error);
    if (status != OVERLANE_OK) {
        fprintf(stderr, "%s: %s\n", node->name, error);
        exit(1);
    }

    overlane_vni_config_init(&vni, sizeof vni);
    TRY(node, overlane_vni_add(node->engine, VNI, &vni));
    overlane_port_config_init(&port, sizeof port);
    port.vni = VNI;
    TRY(node, overlane_port_add(node->engine, &port, &node->port));
    overlane_vtep_config_init(&vtep, sizeof vtep);
    vtep.addr.family = OVERLANE_FAMILY_IPV4;
    memcpy(vtep.addr.bytes, peer, 4);
    TRY(node, overlane_vtep_add(node->engine, &vtep, &node->peer));
    TRY(node, overlane_flood_add(node->engine, VNI, node->peer));
}

/* The eight octets of RFC 7348, section 5: the I flag and the VNI. */
static size_t vxlan(uint8_t *to, const uint8_t *frame, size_t len)
{
    static const uint8_t header[8] = {0x08, 0, 0, 0, 0, 0, VNI, 0};
    memcpy(to, header, 8);
    memcpy(to + 8, frame, len);
    return 8 + len;
}

static overlane_addr address(const uint8_t v4[4])
{
    overlane_addr addr;
    memset(&addr, 0, sizeof addr);
    memcpy(addr.bytes, v4, 4);
    addr.family = OVERLANE_FAMILY_IPV4;
    return addr;
}

static void print_fdb(struct node *node)
{
    overlane_mac_entry entry;
    uint64_t cursor = 0;
    entry.size = sizeof entry;
    while (overlane_mac_next(node->engine, &cursor, &entry) == OVERLANE_OK)
        printf("%s fdb: VNI %u %02x:%02x:%02x:%02x:%02x:%02x %s %u\n", node->name, (unsigned)entry.vni,
               entry.mac[0], entry.mac[1], entry.mac[2], entry.mac[3], entry.mac[4], entry.mac[5],
               entry.at_kind == OVERLANE_AT_PORT ? "port" : "vtep", entry.at);
}

static void print_events(struct node *node)
{
    overlane_event event;
    event.size = sizeof event;
    while (overlane_event_poll(node->engine, &event) == OVERLANE_OK) {
        check(event.kind == OVERLANE_EVENT_LEARNED && event.vni == VNI, "an address was learned");
        printf("%s event: learned ..:%02x at %s %u\n", node->name, event.mac[5],
               event.at_kind == OVERLANE_AT_PORT ? "port" : "vtep", event.at);
    }
}

int main(void)
{
    struct node a = {"a", {192, 0, 2, 1}, NULL, 0, 0}, b = {"b", {192, 0, 2, 2}, NULL, 0, 0};
    /* ARP-like: from pod 1 to everybody, and the answer of pod 2. */
    static const uint8_t question[] = "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\1\x88\xb5who has pod 2?";
    static const uint8_t answer[] = "\x02\0\0\0\0\1\x02\0\0\0\0\2\x88\xb5I have, says pod 2";
    uint64_t now_ms = 1000;
    uint8_t *arena = (uint8_t *)calloc(1, ARENA), datagram[256], expected[256];
    overlane_desc desc;
    overlane_buffer buffer;
    overlane_replica copies[4];
    overlane_vtep_info peer;
    overlane_addr source;
    overlane_counters counters;
    char text[512];
    uint32_t cursor = 0;
    size_t count, len, needed;

    if (!arena || overlane_abi_version() != OVERLANE_ABI_VERSION)
        return 1;
    printf("overlane %s, ABI %u\n", overlane_version(), (unsigned)overlane_abi_version());
    start(&a, b.addr);
    start(&b, a.addr);

    /* Node a: a broadcast from the pod, in the first slot of an arena. */
    memset(&desc, 0, sizeof desc);
    desc.offset = OVERLANE_HEADROOM;
    desc.len = sizeof question;
    memcpy(arena + desc.offset, question, sizeof question);
    TRY(&a, overlane_explain_encap(a.engine, now_ms, a.port, arena + desc.offset, desc.len, text, sizeof text, &needed));
    check(needed == strlen(text), "the explanation is whole");
    printf("a explains:\n%s\n", text);
    TRY(&a, overlane_encap_arena(a.engine, now_ms, a.port, arena, ARENA, OVERLANE_HEADROOM, &desc, NULL, 1));
    check(desc.verdict == OVERLANE_VERDICT_FLOOD && desc.vni == VNI, "a broadcast is flooded");
    TRY(&a, overlane_replicas(a.engine, desc.vni, a.port, arena + desc.offset, desc.len, NULL, &cursor, copies, 4, &count));
    check(count == 1 && copies[0].kind == OVERLANE_AT_VTEP && copies[0].id == a.peer, "one copy, to b");
    memcpy(datagram, copies[0].header, copies[0].header_len);
    memcpy(datagram + copies[0].header_len, arena + desc.offset, desc.len);
    len = copies[0].header_len + desc.len;
    check(len == vxlan(expected, question, sizeof question) && memcmp(datagram, expected, len) == 0,
          "a's datagram, octet by octet");
    peer.size = sizeof peer;
    TRY(&a, overlane_vtep_get(a.engine, copies[0].id, &peer));
    check(memcmp(peer.addr.bytes, b.addr, 4) == 0 && peer.port == 4789, "it goes to b's address");
    printf("a floods %u octets to %u.%u.%u.%u:%u\n", (unsigned)len, peer.addr.bytes[0], peer.addr.bytes[1],
           peer.addr.bytes[2], peer.addr.bytes[3], peer.port);

    /* Node b: the datagram arrives, in a buffer of its own. */
    memset(&buffer, 0, sizeof buffer);
    buffer.data = datagram;
    buffer.capacity = sizeof datagram;
    buffer.len = len;
    buffer.meta.source = address(a.addr);
    TRY(&b, overlane_decap_buffers(b.engine, now_ms, &buffer, 1));
    check(buffer.verdict == OVERLANE_VERDICT_FLOOD && buffer.vni == VNI, "b floods it to its ports");
    check(buffer.len == sizeof question && memcmp(buffer.data + buffer.offset, question, sizeof question) == 0,
          "b's frame, octet by octet");
    cursor = 0;
    TRY(&b, overlane_replicas(b.engine, buffer.vni, OVERLANE_NONE, buffer.data + buffer.offset, buffer.len, NULL,
                              &cursor, copies, 4, &count));
    check(count == 1 && copies[0].kind == OVERLANE_AT_PORT && copies[0].id == b.port, "one copy, to b's pod");
    print_events(&b);

    /* Node b: the pod answers, in the arena's second slot. Pod 1 is known by now. */
    now_ms += 1;
    memset(&desc, 0, sizeof desc);
    desc.offset = SLOT + OVERLANE_HEADROOM;
    desc.len = sizeof answer;
    memcpy(arena + desc.offset, answer, sizeof answer);
    TRY(&b, overlane_encap_arena(b.engine, now_ms, b.port, arena, ARENA, OVERLANE_HEADROOM, &desc, NULL, 1));
    check(desc.verdict == OVERLANE_VERDICT_TO_UNDERLAY && desc.target == b.peer, "the answer goes to a alone");
    len = vxlan(expected, answer, sizeof answer);
    check(desc.len == len && memcmp(arena + desc.offset, expected, len) == 0, "b's datagram, octet by octet");
    printf("b sends %u octets to vtep %u\n", (unsigned)desc.len, desc.target);

    /* Node a: takes it from the same arena; all of the batch came from b. */
    source = address(b.addr);
    TRY(&a, overlane_decap_arena(a.engine, now_ms, arena, ARENA, &desc, NULL, 1, &source));
    check(desc.verdict == OVERLANE_VERDICT_TO_PORT && desc.target == a.port, "the answer is for a's pod");
    check(desc.len == sizeof answer && memcmp(arena + desc.offset, answer, sizeof answer) == 0,
          "a's frame, octet by octet");
    printf("a delivers %u octets to port %u\n", (unsigned)desc.len, desc.target);
    print_events(&a);
    print_fdb(&a);
    print_fdb(&b);

    counters.size = sizeof counters;
    TRY(&a, overlane_counters_get(a.engine, &counters));
    check(counters.flooded == 1 && counters.to_port == 1 && counters.dropped == 0, "a's counters");
    TRY(&b, overlane_counters_get(b.engine, &counters));
    check(counters.flooded == 1 && counters.to_underlay == 1 && counters.dropped == 0, "b's counters");

    TRY(&a, overlane_engine_free(a.engine));
    TRY(&b, overlane_engine_free(b.engine));
    free(arena);
    printf("two nodes: ok\n");
    return 0;
}
