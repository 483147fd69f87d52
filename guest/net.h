/* The network of CONFIGURE: loopback and one link with its address and default route. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct network {
	uint8_t mac[6];
	uint32_t address, gateway; /* network byte order; gateway 0 = none */
	uint8_t prefix;
	uint16_t mtu; /* 0 = leave */
};

bool bring_loopback_up(void);
/* The card's link comes up without an address. No IPv6 on it until a network has it: nothing is said to the neighbours
 * that nobody asked for. */
void ready_link(int sys, int proc);
/* As after ready_link again: without an address. */
void clear_link(int sys);
/* A machine without a network shows no card: the one of its layout leaves its driver. */
void take_link_away(int sys);
/* False with errno set and `*step` naming what failed. */
bool bring_network_up(int sys, const struct network *network, const char **step);
