#include "user.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 16384, /* a group with a thousand members fits; longer lines are skipped */
	LINES_MAX = 200000,     /* a hostile file ends somewhere */
};

FILE *open_regular(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return NULL;
	struct stat about;
	FILE *file = NULL;
	if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode))
		file = fdopen(fd, "r");
	if (!file)
		close(fd);
	return file;
}

struct entry {
	char *columns[7];
	size_t count;
};

/* Reads the next line into `line` and splits it at colons. Comments, blank and over-long lines are skipped. */
static bool next_entry(FILE *file, char *line, struct entry *entry, size_t *lines)
{
	while (file && (*lines)++ < LINES_MAX && fgets(line, LINE_MAX_BYTES, file)) {
		size_t length = strlen(line);
		if (length + 1 == LINE_MAX_BYTES && line[length - 1] != '\n') {
			int byte;
			while ((byte = getc(file)) != EOF && byte != '\n')
				;
			continue;
		}
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] == '#' || line[0] == '\0')
			continue;
		entry->count = 0;
		for (char *at = line; at && entry->count < 7;) {
			entry->columns[entry->count++] = at;
			at = strchr(at, ':');
			if (at)
				*at++ = '\0';
		}
		return true;
	}
	return false;
}

static bool parse_id(const char *text, uint32_t *id)
{
	if (*text < '0' || *text > '9')
		return false;
	char *end;
	unsigned long long value = strtoull(text, &end, 10);
	/* 2^32 - 1 means "leave unchanged" to setresuid. */
	if (*end || value >= UINT32_MAX)
		return false;
	*id = (uint32_t)value;
	return true;
}

static bool lists_member(char *members, const char *name)
{
	size_t length = strlen(name);
	for (char *at = members; at && *at;) {
		size_t part = strcspn(at, ",");
		if (part == length && memcmp(at, name, length) == 0)
			return true;
		at += part + (at[part] == ',');
	}
	return false;
}

static void push_group(struct identity *identity, uint32_t gid)
{
	for (size_t i = 0; i < identity->group_count; i++)
		if (identity->groups[i] == gid)
			return;
	if (identity->group_count < GROUPS_MAX)
		identity->groups[identity->group_count++] = gid;
}

static bool find_user(FILE *passwd, const char *user, struct identity *identity, char *name, size_t name_size)
{
	static char line[LINE_MAX_BYTES];
	struct entry entry;
	size_t lines = 0;
	uint32_t wanted = 0, uid, gid;
	bool numeric = *user == '\0' || parse_id(user, &wanted);
	while (next_entry(passwd, line, &entry, &lines)) {
		if (entry.count < 4 || !parse_id(entry.columns[2], &uid) || !parse_id(entry.columns[3], &gid))
			continue;
		if (strcmp(entry.columns[0], user) != 0 && !(numeric && uid == wanted))
			continue;
		identity->uid = uid;
		identity->gid = gid;
		if (entry.count > 5 && entry.columns[5][0])
			snprintf(identity->home, sizeof identity->home, "%s", entry.columns[5]);
		snprintf(name, name_size, "%s", entry.columns[0]);
		return true;
	}
	identity->uid = wanted;
	return numeric;
}

static bool find_group(FILE *group, const char *name, uint32_t *gid)
{
	static char line[LINE_MAX_BYTES];
	struct entry entry;
	size_t lines = 0;
	uint32_t wanted = 0, id;
	bool numeric = parse_id(name, &wanted);
	if (group)
		rewind(group);
	while (next_entry(group, line, &entry, &lines)) {
		if (entry.count < 3 || !parse_id(entry.columns[2], &id))
			continue;
		if (strcmp(entry.columns[0], name) == 0 || (numeric && id == wanted)) {
			*gid = id;
			return true;
		}
	}
	*gid = wanted;
	return numeric;
}

static void add_memberships(FILE *group, const char *name, struct identity *identity)
{
	static char line[LINE_MAX_BYTES];
	struct entry entry;
	size_t lines = 0;
	uint32_t gid;
	if (group)
		rewind(group);
	while (next_entry(group, line, &entry, &lines))
		if (entry.count >= 4 && parse_id(entry.columns[2], &gid) && lists_member(entry.columns[3], name))
			push_group(identity, gid);
}

bool find_identity(FILE *passwd, FILE *group, const char *user, struct identity *identity, char *error,
		   size_t error_size)
{
	char user_part[256], name[256] = "";
	*identity = (struct identity){ .home = "/" };
	const char *colon = strchr(user, ':');
	size_t length = colon ? (size_t)(colon - user) : strlen(user);
	if (length >= sizeof user_part) {
		snprintf(error, error_size, "unable to find user: the name is longer than 255 bytes");
		return false;
	}
	memcpy(user_part, user, length);
	user_part[length] = '\0';
	const char *group_part = colon ? colon + 1 : "";
	if (passwd)
		rewind(passwd);
	if (!find_user(passwd, user_part, identity, name, sizeof name)) {
		snprintf(error, error_size, "unable to find user %s: no matching entries in passwd file", user_part);
		return false;
	}
	if (*group_part) {
		if (!find_group(group, group_part, &identity->gid)) {
			snprintf(error, error_size, "unable to find group %s: no matching entries in group file",
				 group_part);
			return false;
		}
	} else if (*name) {
		add_memberships(group, name, identity);
	}
	return true;
}

bool add_group(FILE *group, const char *name, struct identity *identity, char *error, size_t error_size)
{
	uint32_t gid;
	if (!find_group(group, name, &gid)) {
		snprintf(error, error_size, "unable to find group %s: no matching entries in group file", name);
		return false;
	}
	push_group(identity, gid);
	return true;
}

bool find_user_name(FILE *passwd, uint32_t uid, char *name, size_t size)
{
	static char line[LINE_MAX_BYTES];
	struct entry entry;
	size_t lines = 0;
	uint32_t id;
	if (passwd)
		rewind(passwd);
	while (next_entry(passwd, line, &entry, &lines)) {
		if (entry.count < 3 || !parse_id(entry.columns[2], &id) || id != uid)
			continue;
		snprintf(name, size, "%s", entry.columns[0]);
		return true;
	}
	return false;
}
