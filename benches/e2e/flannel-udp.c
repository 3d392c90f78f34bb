/* flannel's UDP proxy as a program of its own, without the daemon around it. flannel's sources are not here:
 *   git clone https://github.com/flannel-io/flannel
 *   cc -O2 -I flannel/pkg/backend/udp -o flannel-udp-proxy flannel-udp.c flannel/pkg/backend/udp/proxy_amd64.c
 * flannel-udp-proxy TUN TUN_ADDR LOCAL PORT REMOTE NET/LEN MTU */
#include "proxy_amd64.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static in_addr_t address(const char *text)
{
	struct in_addr a;
	if (inet_pton(AF_INET, text, &a) != 1) { fprintf(stderr, "not an IPv4 address: %s\n", text); exit(2); }
	return a.s_addr;
}

int main(int argc, char **argv)
{
	struct ifreq ifr = {0};
	struct sockaddr_in local = { .sin_family = AF_INET };
	command cmd = {0};
	char net[32];
	char *slash;
	int tun, sock, ctl[2];

	if (argc != 8 || strlen(argv[6]) >= sizeof net) { fprintf(stderr, "flannel-udp-proxy TUN TUN_ADDR LOCAL PORT REMOTE NET/LEN MTU\n"); return 2; }
	strcpy(net, argv[6]);
	if (!(slash = strchr(net, '/'))) { fprintf(stderr, "not a prefix: %s\n", net); return 2; }
	*slash = 0;

	strncpy(ifr.ifr_name, argv[1], IFNAMSIZ - 1);
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	if ((tun = open("/dev/net/tun", O_RDWR)) < 0 || ioctl(tun, TUNSETIFF, &ifr)) { perror("tun"); return 1; }
	local.sin_addr.s_addr = address(argv[3]);
	local.sin_port = htons((unsigned short)atoi(argv[4]));
	if ((sock = socket(AF_INET, SOCK_DGRAM, 0)) < 0 || bind(sock, (struct sockaddr *)&local, sizeof local)) { perror("socket"); return 1; }
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ctl)) { perror("socketpair"); return 1; }

	cmd.cmd = CMD_SET_ROUTE;
	cmd.dest_net = address(net);
	cmd.dest_net_len = atoi(slash + 1);
	cmd.next_hop_ip = address(argv[5]);
	cmd.next_hop_port = (short)atoi(argv[4]); /* in host order, for all its type says */
	if (send(ctl[0], &cmd, sizeof cmd, 0) != sizeof cmd) { perror("send"); return 1; }
	run_proxy(tun, sock, ctl[1], address(argv[2]), (size_t)atoi(argv[7]), 0);
	return 0;
}
