#define _GNU_SOURCE
#include "configure.h"

#include "files.h"
#include "guest.h"
#include "log.h"
#include "net.h"
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

bool set_clock(uint64_t epoch_ns, uint64_t at_ns)
{
	uint64_t now_ns = epoch_ns + (at_ns ? boottime_ns() - at_ns : 0);
	struct timespec time = { .tv_sec = (time_t)(now_ns / 1000000000), .tv_nsec = (long)(now_ns % 1000000000) };
	return clock_settime(CLOCK_REALTIME, &time) == 0;
}

static bool add_entropy(const struct field *field)
{
	struct {
		int bit_count, byte_count;
		uint8_t seed[64];
	} pool = { 0 };
	size_t length = field->length < sizeof pool.seed ? field->length : sizeof pool.seed;
	memcpy(pool.seed, field->value, length);
	pool.byte_count = (int)length;
	pool.bit_count = (int)length * 8;
	int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool good = ioctl(fd, RNDADDENTROPY, &pool) == 0;
	/* A clone of a template shares its generator's state until this reseeds it. */
	good = ioctl(fd, RNDRESEEDCRNG, 0) == 0 && good;
	close(fd);
	return good;
}

static bool set_sysctl(const char *assignment)
{
	char path[256];
	const char *equals = strchr(assignment, '=');
	size_t length = equals ? (size_t)(equals - assignment) : 0;
	if (length == 0 || length + 5 > sizeof path || strstr(assignment, "..")) {
		errno = EINVAL;
		return false;
	}
	memcpy(path, "sys/", 4);
	memcpy(path + 4, assignment, length);
	path[4 + length] = '\0';
	/* As sysctl(8): dots separate unless the name has slashes; then dots belong to names such as eth0.1. */
	if (!strchr(path + 4, '/'))
		for (char *at = path + 4; *at; at++)
			if (*at == '.')
				*at = '/';
	int fd = openat(guest.proc, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	size_t left = strlen(equals + 1);
	bool good = write(fd, equals + 1, left) == (ssize_t)left;
	close(fd);
	return good;
}

static bool read_network(const struct field *field, struct network *network)
{
	if (field->length < 17)
		return false;
	memcpy(network->mac, field->value, 6);
	memcpy(&network->address, field->value + 6, 4);
	network->prefix = field->value[10];
	memcpy(&network->gateway, field->value + 11, 4);
	network->mtu = load_u16(field->value + 15);
	return true;
}

bool read_configuration(struct configuration *to, const uint8_t *payload, size_t length)
{
	struct field_cursor cursor = fields_of(payload, length);
	struct root_plan *root = &to->root;
	bool good = true;
	for (struct field field; good && next_field(&cursor, &field);) {
		switch (field.tag) {
		case 1:
			free(to->hostname);
			good = (to->hostname = field_text(&field));
			break;
		case 2:
			free(to->domain);
			good = (to->domain = field_text(&field));
			break;
		case 3:
			root->hosts = field;
			break;
		case 4:
			root->resolv_conf = field;
			break;
		case 5:
			good = field.length >= 16 && root->layer_count < LAYERS_MAX;
			if (good)
				root->layers[root->layer_count++] =
					(struct layer){ load_u64(field.value), load_u64(field.value + 8) };
			break;
		case 6:
			good = to->has_network = read_network(&field, &to->network);
			break;
		case 7:
			root->read_only = field_u32(&field) != 0;
			break;
		case 9:
			to->clock_ns = field_u64(&field);
			to->clock_at_ns = field.length >= 16 ? load_u64(field.value + 8) : 0;
			break;
		case 10:
			to->entropy = field;
			break;
		case 11:
			root->shm_bytes = field_u64(&field);
			break;
		case 14:
			root->machine_id = field;
			break;
		case 15:
			root->product_uuid = field;
			break;
		default:
			break;
		}
	}
	return good && !cursor.malformed;
}

void forget_configuration(struct configuration *configuration)
{
	free(configuration->hostname);
	free(configuration->domain);
	*configuration = (struct configuration){ 0 };
}

static bool apply_sysctls(const uint8_t *payload, size_t length, char *what, size_t size)
{
	struct field_cursor cursor = fields_of(payload, length);
	for (struct field field; next_field(&cursor, &field);) {
		if (field.tag != 12)
			continue;
		char *assignment = field_text(&field);
		bool good = assignment && set_sysctl(assignment);
		int error = errno;
		if (!good)
			snprintf(what, size, "sysctl %s", assignment ? assignment : "");
		free(assignment);
		errno = error;
		if (!good)
			return false;
	}
	return true;
}

bool apply_names(struct configuration *configuration, char *what, size_t size)
{
	if (configuration->clock_ns && !set_clock(configuration->clock_ns, configuration->clock_at_ns))
		log_line("setting the clock: %s", strerror(errno));
	if (configuration->entropy.length && !add_entropy(&configuration->entropy))
		log_line("adding entropy: %s", strerror(errno));
	if (configuration->hostname) {
		snprintf(guest.hostname, sizeof guest.hostname, "%s", configuration->hostname);
		snprintf(what, size, "hostname");
		if (sethostname(guest.hostname, strlen(guest.hostname)))
			return false;
	}
	snprintf(what, size, "domain name");
	return !configuration->domain || setdomainname(configuration->domain, strlen(configuration->domain)) == 0;
}

static bool apply(struct configuration *configuration, const uint8_t *payload, size_t length, char *what, size_t size)
{
	const char *step = "";
	if (!apply_names(configuration, what, size))
		return false;
	configuration->root.payload = payload;
	configuration->root.payload_length = length;
	if (!build_root(&configuration->root, what, size))
		return false;
	if (!configuration->has_network)
		take_link_away(guest.sys);
	else if (!bring_network_up(guest.sys, &configuration->network, &step)) {
		snprintf(what, size, "%s", step);
		return false;
	}
	return apply_sysctls(payload, length, what, size);
}

bool configure(const uint8_t *payload, size_t length, struct bytes *reply)
{
	static struct configuration configuration;
	char what[PATH_MAX + 64] = "reading CONFIGURE";
	uint64_t began = boottime_ns();
	errno = EINVAL;
	bool good = read_configuration(&configuration, payload, length) &&
		    apply(&configuration, payload, length, what, sizeof what);
	if (!good) {
		char text[PATH_MAX + 256];
		snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
		put_field_text(reply, 1, text);
		put_field_text(reply, 2, what);
		log_fatal("%s", text);
	}
	put_field_u64(reply, 3, began);
	put_field_u64(reply, 4, boottime_ns());
	forget_configuration(&configuration);
	return good;
}
