#define _GNU_SOURCE
#include "twin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Which offloads the guest has agreed to: the kernel tells by the features of the interface only. */
static unsigned offloads_of(const char *name)
{
	struct {
		struct ethtool_sset_info head;
		uint32_t count;
	} sets = {.head = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ULL << ETH_SS_FEATURES}};
	struct ifreq interface = {0};
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(interface.ifr_name, IFNAMSIZ, "%s", name);
	interface.ifr_data = (void *)&sets;
	if (control < 0 || ioctl(control, SIOCETHTOOL, &interface) != 0 || sets.count == 0 || sets.count > 1024)
		fail("cannot ask %s for its features", name);
	struct ethtool_gstrings *names = calloc(1, sizeof *names + sets.count * ETH_GSTRING_LEN);
	const uint32_t blocks = (sets.count + 31) / 32;
	struct ethtool_gfeatures *features = calloc(1, sizeof *features + blocks * sizeof features->features[0]);
	if (names == NULL || features == NULL)
		fail("no memory");
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = sets.count;
	features->cmd = ETHTOOL_GFEATURES;
	features->size = blocks;
	interface.ifr_data = (void *)names;
	if (ioctl(control, SIOCETHTOOL, &interface) != 0)
		fail("cannot ask %s for its features", name);
	interface.ifr_data = (void *)features;
	if (ioctl(control, SIOCETHTOOL, &interface) != 0)
		fail("cannot ask %s for its features", name);
	static const struct {
		const char *feature;
		unsigned offload;
	} known[] = {
		{"tx-checksum-ip-generic", TUN_F_CSUM},
		{"tx-tcp-segmentation", TUN_F_TSO4},
		{"tx-tcp6-segmentation", TUN_F_TSO6},
		{"tx-tcp-ecn-segmentation", TUN_F_TSO_ECN},
	};
	unsigned offloads = 0;
	for (uint32_t bit = 0; bit < sets.count; bit++)
		for (size_t index = 0; index < sizeof known / sizeof known[0]; index++)
			if (strncmp((char *)names->data + bit * ETH_GSTRING_LEN, known[index].feature, ETH_GSTRING_LEN) == 0 &&
			    (features->features[bit / 32].requested & (1u << (bit % 32))))
				offloads |= known[index].offload;
	free(names);
	free(features);
	close(control);
	return offloads & TUN_F_CSUM ? offloads : 0;
}

int tap_instead_of(int theirs, int place)
{
	struct ifreq old = {0}, interface = {0};
	int header, buffer;
	errno = 0;
	if (request.tap == NULL)
		fail("descriptor %d is a network interface, and the twin has none instead", place);
	if (strlen(request.tap) >= IFNAMSIZ || (request.bridge != NULL && strlen(request.bridge) >= IFNAMSIZ))
		fail("interface name %s is longer than %d characters", request.tap, IFNAMSIZ - 1);
	if (ioctl(theirs, TUNGETIFF, &old) != 0 || ioctl(theirs, TUNGETVNETHDRSZ, &header) != 0 ||
	    ioctl(theirs, TUNGETSNDBUF, &buffer) != 0)
		fail("cannot read how the interface of descriptor %d is set", place);
	unsigned offloads = offloads_of(old.ifr_name);
	int made = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (made < 0)
		fail("cannot open /dev/net/tun");
	strcpy(interface.ifr_name, request.tap);
	interface.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (ioctl(made, TUNSETIFF, &interface) != 0)
		fail("cannot make the tap interface %s", request.tap);
	if (ioctl(made, TUNSETVNETHDRSZ, &header) != 0 || ioctl(made, TUNSETSNDBUF, &buffer) != 0 ||
	    ioctl(made, TUNSETOFFLOAD, (unsigned long)offloads) != 0)
		fail("cannot set up the tap interface %s", request.tap);
	if (request.bridge == NULL)
		return made;
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0 || ioctl(control, SIOCGIFINDEX, &interface) != 0)
		fail("cannot find the tap interface %s", request.tap);
	int index = interface.ifr_ifindex;
	memset(&interface, 0, sizeof interface);
	strcpy(interface.ifr_name, request.bridge);
	interface.ifr_ifindex = index;
	if (ioctl(control, SIOCBRADDIF, &interface) != 0)
		fail("cannot join the bridge %s", request.bridge);
	memset(&interface, 0, sizeof interface);
	strcpy(interface.ifr_name, request.tap);
	if (ioctl(control, SIOCGIFFLAGS, &interface) != 0)
		fail("cannot read the flags of %s", request.tap);
	interface.ifr_flags |= IFF_UP;
	if (!request.stays_down && ioctl(control, SIOCSIFFLAGS, &interface) != 0)
		fail("cannot bring up %s", request.tap);
	close(control);
	return made;
}
