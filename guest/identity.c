#include "identity.h"

#include "configure.h"
#include "connections.h"
#include "freeze.h"
#include "guest.h"
#include "log.h"
#include "net.h"
#include "port.h"
#include "process.h"
#include "root.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool take_identity(struct configuration *to, const uint8_t *payload, size_t length, char *what, size_t size)
{
	const char *step = "";
	snprintf(what, size, "reading IDENTIFY");
	errno = EINVAL;
	if (!read_configuration(to, payload, length))
		return false;
	if (!apply_names(to, what, size) || !write_bound_files(&to->root, what, size))
		return false;
	if (to->has_network) {
		/* The host has pulled the cable: a reset would reach the other end of the original's connection. The old
		 * address goes with its routes when the new one comes. */
		if (!close_connections())
			log_line("closing connections: %s", strerror(errno));
		if (!bring_network_up(guest.sys, &to->network, &step)) {
			snprintf(what, size, "%s", step);
			return false;
		}
	}
	forget_output();
	return true;
}

void handle_identify(const struct message *message)
{
	static struct configuration configuration;
	struct bytes reply = { 0 };
	char what[512], text[640];
	snprintf(what, sizeof what, "becoming another");
	errno = EINVAL;
	if (!processes_frozen() || !take_identity(&configuration, message->payload, message->length, what, sizeof what)) {
		snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
		put_field_text(&reply, 1, text);
	}
	forget_configuration(&configuration);
	send_bytes(M_IDENTIFIED, message->id, &reply);
}
