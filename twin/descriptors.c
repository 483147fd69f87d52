#define _GNU_SOURCE
#include "twin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 128
#define MEMORY (-1) /* not a descriptor's place: it is mapped */

struct descriptor {
	int place;
	int replacement; /* ours */
	int flags;       /* of dup3 */
};

static struct descriptor descriptors[MAX_DESCRIPTORS];
static int descriptor_count;

static const char *replaced(struct pair *pairs, int count, const char *name)
{
	for (int index = 0; index < count; index++)
		if (strcmp(pairs[index].old, name) == 0) {
			pairs[index].used = 1;
			return pairs[index].new;
		}
	return NULL;
}

/* What was to be replaced and is not there would be shared under another name. */
static void refuse_unused(const struct pair *pairs, int count)
{
	for (int index = 0; index < count; index++) {
		errno = 0;
		if (!pairs[index].used)
			fail("process %d has nothing open at %s", request.original, pairs[index].old);
	}
}

static void hand_over(const char *path)
{
	if (request.has_user && lchown(path, request.user, request.user) != 0)
		fail("cannot give %s to user %u", path, request.user);
}

static int listening_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	errno = ENAMETOOLONG;
	if (strlen(path) >= sizeof address.sun_path)
		fail("cannot listen at %s", path);
	strcpy(address.sun_path, path);
	int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t before = umask(0077);
	if (made < 0 || bind(made, (struct sockaddr *)&address, sizeof address) != 0 || listen(made, 8) != 0)
		fail("cannot listen at %s", path);
	umask(before);
	hand_over(path);
	return made;
}

static int left_alone(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		fail("cannot make a socket");
	close(ends[1]);
	return ends[0];
}

static int socket_instead_of(int theirs, int place)
{
	int listens_now = 0;
	socklen_t length = sizeof listens_now;
	if (getsockopt(theirs, SOL_SOCKET, SO_ACCEPTCONN, &listens_now, &length) != 0)
		fail("descriptor %d cannot be understood", place);
	if (!listens_now)
		return left_alone();
	struct sockaddr_un address = {0};
	length = sizeof address;
	if (getsockname(theirs, (struct sockaddr *)&address, &length) != 0 || address.sun_family != AF_UNIX) {
		errno = 0;
		fail("descriptor %d listens on a network", place);
	}
	const char *new = replaced(request.listens, request.listen_count, address.sun_path);
	errno = 0;
	if (new == NULL)
		fail("descriptor %d listens at %s, and the twin has no place instead", place, address.sun_path);
	return listening_at(new);
}

static int event_count(const char *information)
{
	FILE *file = fopen(information, "re");
	char line[128];
	unsigned long long count = 0;
	if (file == NULL)
		fail("cannot read %s", information);
	while (fgets(line, sizeof line, file) != NULL)
		if (sscanf(line, "eventfd-count: %llx", &count) == 1)
			break;
	fclose(file);
	/* A counter that someone has raised is raised in the twin as well. */
	int made = eventfd((unsigned)count, EFD_CLOEXEC);
	if (made < 0)
		fail("cannot make an event descriptor");
	return made;
}

/* Nobody can write to it: sealed against that, or empty for ever. */
static int is_sealed(int theirs, const struct stat *facts)
{
	int seals = fcntl(theirs, F_GET_SEALS);
	return seals >= 0 && ((seals & F_SEAL_WRITE) || (facts->st_size == 0 && (seals & F_SEAL_GROW)));
}

/* Ours to give instead of what the original has in `place`, or -1 to share it. */
static int instead_of(int theirs, int place, const char *name, const char *information)
{
	struct stat facts;
	if (place == 1 || place == 2) {
		if (request.log == NULL)
			return -1;
		int made = open(request.log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (made < 0)
			fail("cannot open %s", request.log);
		return made;
	}
	if (strcmp(name, "anon_inode:[eventfd]") == 0)
		return event_count(information);
	if (strcmp(name, "anon_inode:[signalfd]") == 0 || strcmp(name, "/dev/null") == 0)
		return -1;
	if (strcmp(name, "/dev/net/tun") == 0)
		return tap_instead_of(theirs, place);
	if (fstat(theirs, &facts) != 0)
		fail("descriptor %d cannot be understood", place);
	if (S_ISSOCK(facts.st_mode))
		return socket_instead_of(theirs, place);
	const int mode = fcntl(theirs, F_GETFL);
	const char *new = replaced(request.files, request.file_count, name);
	if (new != NULL) {
		int made = open(new, (mode & (O_ACCMODE | O_DIRECT | O_DSYNC)) | O_NOFOLLOW | O_CLOEXEC);
		if (made < 0)
			fail("cannot open %s", new);
		return made;
	}
	if (S_ISREG(facts.st_mode) && ((mode & O_ACCMODE) == O_RDONLY || is_sealed(theirs, &facts)))
		return -1;
	errno = 0;
	fail("descriptor %d is %s, and the twin has nothing instead", place, name);
}

void prepare_descriptors(void)
{
	char path[64], name[PATH_MAX];
	int process = (int)syscall(SYS_pidfd_open, request.original, 0);
	if (process < 0)
		fail("cannot look into process %d", request.original);
	snprintf(path, sizeof path, "/proc/%d/fd", request.original);
	DIR *folder = opendir(path);
	if (folder == NULL)
		fail("cannot read %s", path);
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		int place = atoi(entry->d_name);
		ssize_t length = readlinkat(dirfd(folder), entry->d_name, name, sizeof name - 1);
		int theirs = (int)syscall(SYS_pidfd_getfd, process, place, 0);
		if (length < 0 || theirs < 0)
			fail("cannot look at descriptor %d of process %d", place, request.original);
		name[length] = '\0';
		char information[64], line[128];
		snprintf(information, sizeof information, "/proc/%d/fdinfo/%d", request.original, place);
		int replacement = instead_of(theirs, place, name, information);
		if (replacement >= 0) {
			errno = 0;
			if (descriptor_count == MAX_DESCRIPTORS)
				fail("process %d has more than %d descriptors", request.original, MAX_DESCRIPTORS);
			if (fcntl(replacement, F_SETFL, fcntl(theirs, F_GETFL)) != 0)
				fail("cannot set up what is to become descriptor %d", place);
			struct descriptor *one = &descriptors[descriptor_count++];
			one->place = place;
			one->replacement = replacement;
			FILE *file = fopen(information, "re");
			unsigned flags = 0;
			while (file != NULL && fgets(line, sizeof line, file) != NULL)
				if (sscanf(line, "flags: %o", &flags) == 1)
					break;
			if (file != NULL)
				fclose(file);
			one->flags = (int)(flags & O_CLOEXEC);
		}
		close(theirs);
	}
	closedir(folder);
	close(process);
	if (memory_descriptor >= 0)
		descriptors[descriptor_count++] = (struct descriptor){.place = MEMORY, .replacement = memory_descriptor};
	refuse_unused(request.listens, request.listen_count);
	refuse_unused(request.files, request.file_count);
}

struct parcel {
	struct msghdr message;
	struct iovec part;
	char byte;
	char control[CMSG_SPACE(sizeof(int) * MAX_DESCRIPTORS)];
};

/* They travel over a socket the twin makes, whose other end is taken out of it. */
void give_descriptors(const struct thread *at, pid_t twin, uint64_t scratch)
{
	int ends[2], numbers[MAX_DESCRIPTORS];
	const size_t bytes = sizeof(int) * (size_t)descriptor_count;
	ask(at, twin, "make a socket", SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, scratch);
	read_memory(twin, scratch, ends, sizeof ends);
	int process = (int)syscall(SYS_pidfd_open, twin, 0);
	int ours = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, ends[1], 0);
	if (ours < 0)
		fail("cannot reach the twin");
	close(process);

	struct parcel parcel = {.byte = 'd'};
	parcel.part = (struct iovec){&parcel.byte, 1};
	parcel.message = (struct msghdr){.msg_iov = &parcel.part, .msg_iovlen = 1, .msg_control = parcel.control, .msg_controllen = CMSG_SPACE(bytes)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&parcel.message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(bytes);
	for (int index = 0; index < descriptor_count; index++)
		numbers[index] = descriptors[index].replacement;
	memcpy(CMSG_DATA(head), numbers, bytes);
	if (sendmsg(ours, &parcel.message, 0) != 1)
		fail("cannot give the twin its descriptors");

	struct parcel theirs = {.byte = 0};
	theirs.part = (struct iovec){(void *)(scratch + offsetof(struct parcel, byte)), 1};
	theirs.message = (struct msghdr){.msg_iov = (void *)(scratch + offsetof(struct parcel, part)), .msg_iovlen = 1, .msg_control = (void *)(scratch + offsetof(struct parcel, control)), .msg_controllen = CMSG_SPACE(bytes)};
	write_memory(twin, scratch, &theirs, sizeof theirs);
	ask(at, twin, "take its descriptors", SYS_recvmsg, (uint64_t)ends[0], scratch + offsetof(struct parcel, message), MSG_CMSG_CLOEXEC, 0);
	read_memory(twin, scratch + offsetof(struct parcel, control) + CMSG_LEN(0), numbers, bytes);
	for (int index = 0; index < descriptor_count; index++) {
		if (descriptors[index].place == MEMORY)
			map_memory(at, twin, numbers[index]);
		else
			ask(at, twin, "place a descriptor", SYS_dup3, (uint64_t)numbers[index], (uint64_t)descriptors[index].place, (uint64_t)descriptors[index].flags, 0);
		ask(at, twin, "close a descriptor", SYS_close, (uint64_t)numbers[index], 0, 0, 0);
	}
	for (int index = 0; index < 2; index++)
		ask(at, twin, "close a descriptor", SYS_close, (uint64_t)ends[index], 0, 0, 0);
	close(ours);
}
