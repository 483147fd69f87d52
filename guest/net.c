#include "net.h"

#include "files.h"
#include "log.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The classic ioctls: what they do is done when they return, and no reply needs parsing. */

static void set_address(struct sockaddr *socket_address, uint32_t address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = address };
	memcpy(socket_address, &in, sizeof *socket_address);
}

static bool link_up(int fd, const char *name)
{
	struct ifreq request = { 0 };
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		return false;
	request.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request) == 0;
}

bool bring_loopback_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool good = link_up(fd, "lo"); /* the kernel adds 127.0.0.1/8 and ::1 itself */
	close(fd);
	return good;
}

/* The one network card a guest has: the first link that has a device behind it. */
static bool find_link(int sys, char name[IF_NAMESIZE])
{
	char path[NAME_MAX + 32];
	int fd = openat(sys, "class/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	DIR *links = fdopendir(fd);
	if (!links) {
		close(fd);
		return false;
	}
	bool found = false;
	for (struct dirent *entry; !found && (entry = readdir(links));) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IF_NAMESIZE)
			continue;
		snprintf(path, sizeof path, "class/net/%s/device", entry->d_name);
		if (faccessat(sys, path, F_OK, 0) == 0) {
			memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
			found = true;
		}
	}
	closedir(links);
	if (!found)
		errno = ENODEV;
	return found;
}

void ready_link(int sys, int proc)
{
	char name[IF_NAMESIZE], path[IF_NAMESIZE + 64];
	if (!find_link(sys, name))
		return;
	snprintf(path, sizeof path, "sys/net/ipv6/conf/%s/disable_ipv6", name);
	write_text(proc, path, "1");
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || !link_up(fd, name))
		log_line("%s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void clear_link(int sys)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && find_link(sys, request.ifr_name)) {
		set_address(&request.ifr_addr, 0);
		if (ioctl(fd, SIOCSIFADDR, &request) && errno != EADDRNOTAVAIL)
			log_line("%s: %s", request.ifr_name, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
}

void take_link_away(int sys)
{
	char name[IF_NAMESIZE], path[IF_NAMESIZE + 32], device[PATH_MAX];
	if (!find_link(sys, name))
		return;
	snprintf(path, sizeof path, "class/net/%s/device", name);
	ssize_t length = readlinkat(sys, path, device, sizeof device - 1);
	if (length <= 0)
		return;
	device[length] = '\0';
	const char *slash = strrchr(device, '/');
	if (!write_text(sys, "bus/virtio/drivers/virtio_net/unbind", slash ? slash + 1 : device))
		log_line("taking %s away: %s", name, strerror(errno));
}

static bool add_route(int fd, char *name, uint32_t target, uint32_t gateway, unsigned short flags)
{
	struct rtentry route = { .rt_flags = (unsigned short)(RTF_UP | flags), .rt_dev = name };
	set_address(&route.rt_dst, target);
	set_address(&route.rt_gateway, gateway);
	set_address(&route.rt_genmask, flags & RTF_HOST ? 0xffffffff : 0);
	return ioctl(fd, SIOCADDRT, &route) == 0 || errno == EEXIST;
}

static bool set_up(int fd, char *name, const struct network *network, const char **step)
{
	uint32_t mask = network->prefix ? htonl(0xffffffffu << (32 - network->prefix)) : 0;
	struct ifreq request = { 0 };
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	*step = "network card's address";
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, network->mac, sizeof network->mac);
	if (ioctl(fd, SIOCSIFHWADDR, &request))
		return false;
	*step = "network mtu";
	request.ifr_mtu = network->mtu;
	if (network->mtu && network->mtu != 1500 && ioctl(fd, SIOCSIFMTU, &request))
		return false;
	*step = "network address";
	set_address(&request.ifr_addr, network->address);
	if (network->address && ioctl(fd, SIOCSIFADDR, &request))
		return false;
	set_address(&request.ifr_netmask, mask);
	if (network->address && ioctl(fd, SIOCSIFNETMASK, &request))
		return false;
	*step = "network link";
	if (!link_up(fd, name))
		return false;
	*step = "network route";
	if (!network->gateway)
		return true;
	bool on_link = (network->gateway & mask) == (network->address & mask) && network->prefix;
	if (!on_link && !add_route(fd, name, network->gateway, 0, RTF_HOST))
		return false;
	return add_route(fd, name, 0, network->gateway, RTF_GATEWAY);
}

bool bring_network_up(int sys, const struct network *network, const char **step)
{
	char name[IF_NAMESIZE];
	*step = "network link";
	if (network->prefix > 32) {
		errno = EINVAL;
		return false;
	}
	if (!find_link(sys, name))
		return false;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool good = set_up(fd, name, network, step);
	int saved = errno;
	close(fd);
	errno = saved;
	return good;
}
