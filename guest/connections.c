#define _GNU_SOURCE
#include "connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* sock_diag(7): a dump of the sockets, and SOCK_DESTROY for each. */

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

/* Those without a peer (listening, closed) and those that only wait for time to pass stay. */
#define ALL_STATES 0xfffu
#define LEFT_ALONE ((1u << TCP_LISTEN) | (1u << TCP_CLOSE) | (1u << TCP_TIME_WAIT))

static bool ask(int fd, uint16_t type, uint16_t flags, const struct inet_diag_req_v2 *body)
{
	struct request request = { .header = { .nlmsg_len = sizeof request,
					       .nlmsg_type = type,
					       .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) },
				   .body = *body };
	return send(fd, &request, sizeof request, 0) == (ssize_t)sizeof request;
}

static bool is_loopback(const struct inet_diag_msg *socket)
{
	const uint32_t *address = socket->id.idiag_src;
	static const uint32_t one[4] = { 0, 0, 0, 0x01000000 }, mapped[3] = { 0, 0, 0xffff0000 };
	if (socket->idiag_family == AF_INET)
		return (ntohl(address[0]) >> 24) == 127;
	return memcmp(address, one, sizeof one) == 0 ||
	       (memcmp(address, mapped, sizeof mapped) == 0 && (ntohl(address[3]) >> 24) == 127);
}

static void end(int fd, const struct inet_diag_msg *socket)
{
	struct inet_diag_req_v2 body = { .sdiag_family = socket->idiag_family,
					 .sdiag_protocol = IPPROTO_TCP,
					 .idiag_states = ALL_STATES,
					 .id = socket->id };
	char answer[256];
	if (ask(fd, SOCK_DESTROY, NLM_F_ACK, &body))
		recv(fd, answer, sizeof answer, 0); /* one that has ended by itself meanwhile is no matter */
}

/* False at the end of the dump, and when it broke off: then errno is not 0. */
static bool take(const char *answer, size_t length, int killer)
{
	errno = 0;
	for (const struct nlmsghdr *header = (const void *)answer; NLMSG_OK(header, length);
	     header = NLMSG_NEXT(header, length)) {
		if (header->nlmsg_type == NLMSG_DONE)
			return false;
		if (header->nlmsg_type == NLMSG_ERROR) {
			errno = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
			return false;
		}
		const struct inet_diag_msg *socket = NLMSG_DATA(header);
		if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY && !is_loopback(socket))
			end(killer, socket);
	}
	return true;
}

static bool close_family(int fd, int killer, uint8_t family)
{
	static _Alignas(8) char answer[16384];
	struct inet_diag_req_v2 body = { .sdiag_family = family,
					 .sdiag_protocol = IPPROTO_TCP,
					 .idiag_states = ALL_STATES & ~LEFT_ALONE };
	if (!ask(fd, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &body))
		return false;
	for (;;) {
		ssize_t length = recv(fd, answer, sizeof answer, 0);
		if (length <= 0)
			return false;
		if (!take(answer, (size_t)length, killer))
			return errno == 0;
	}
}

bool close_connections(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	int killer = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	bool good = fd >= 0 && killer >= 0 && close_family(fd, killer, AF_INET) && close_family(fd, killer, AF_INET6);
	int error = errno;
	if (fd >= 0)
		close(fd);
	if (killer >= 0)
		close(killer);
	errno = error;
	return good;
}
