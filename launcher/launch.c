/*
 * berth-launch: the one door every QEMU goes through on its way to becoming unprivileged.
 *
 *   berth-launch [--uid N --gid N [--group N]] [--tap NAME [--bridge NAME]] [--memory FILE | --sealed-memory FILE]
 *                [--state FILE] [--log FILE] [--ends-with-parent yes] -- PROGRAM ARG...
 *
 * In this order: standard input becomes /dev/null, and output the log file when one is named; a tap interface is made on
 * descriptor 3 and joined to the bridge, if any (it lives as long as the descriptor: nothing to clean up after a crash); the memory of the machine
 * is opened on descriptor 4 and its saved state, read-only, on descriptor 5 (PROGRAM may not reach either by its name);
 * every other descriptor is closed; core dumps are off; groups (but for --group: the one that may open /dev/kvm), gid and uid are given up;
 * no_new_privs is set; PROGRAM starts. With --ends-with-parent the kernel kills it when the process that started us ends.
 * A failure is one line on standard error and exit status 126 (or 127 when PROGRAM is missing).
 *
 * The later jail (namespaces, pivot_root, cgroup, Landlock) has its place here, between the tap and the uid.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TAP_DESCRIPTOR 3
#define MEMORY_DESCRIPTOR 4
#define STATE_DESCRIPTOR 5

static _Noreturn void fail(const char *what, const char *name)
{
	fprintf(stderr, "berth-launch: %s %s: %s\n", what, name, strerror(errno));
	_exit(126);
}

static unsigned long parse_number(const char *text)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || end == text || value > 0xfffffffeUL) {
		fprintf(stderr, "berth-launch: %s is not a user or group number\n", text);
		_exit(126);
	}
	return value;
}

static void copy_name(char *to, const char *from)
{
	if (strlen(from) >= IFNAMSIZ) {
		fprintf(stderr, "berth-launch: interface name %s is longer than %d characters\n", from, IFNAMSIZ - 1);
		_exit(126);
	}
	strcpy(to, from);
}

/* Moves a descriptor to where PROGRAM looks for it. The places are taken before anything is opened: see main. */
static void settle(int descriptor, int place)
{
	if (dup2(descriptor, place) < 0)
		fail("cannot keep", "a descriptor");
	close(descriptor);
}

/* Leaves a tap interface on TAP_DESCRIPTOR: up and in the bridge, or down and alone where there is none. */
static void open_tap(const char *tap, const char *bridge)
{
	struct ifreq request;
	int descriptor = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (descriptor < 0)
		fail("cannot open", "/dev/net/tun");
	memset(&request, 0, sizeof request);
	copy_name(request.ifr_name, tap);
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (ioctl(descriptor, TUNSETIFF, &request) != 0)
		fail("cannot make the tap interface", tap);
	settle(descriptor, TAP_DESCRIPTOR);
	if (bridge == NULL)
		return;

	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0)
		fail("cannot open", "a control socket");
	memset(&request, 0, sizeof request);
	copy_name(request.ifr_name, tap);
	if (ioctl(control, SIOCGIFINDEX, &request) != 0)
		fail("cannot find the tap interface", tap);
	int index = request.ifr_ifindex;
	memset(&request, 0, sizeof request);
	copy_name(request.ifr_name, bridge);
	request.ifr_ifindex = index;
	if (ioctl(control, SIOCBRADDIF, &request) != 0)
		fail("cannot join the bridge", bridge);
	memset(&request, 0, sizeof request);
	copy_name(request.ifr_name, tap);
	if (ioctl(control, SIOCGIFFLAGS, &request) != 0)
		fail("cannot read the flags of", tap);
	request.ifr_flags |= IFF_UP;
	if (ioctl(control, SIOCSIFFLAGS, &request) != 0)
		fail("cannot bring up", tap);
	close(control);
}

/* A memory named through another process's descriptor is a template's: it must be sealed against every write, or else
 * one VM could change what all the others start from. A template that is being made is not, and is not yet used. */
static void open_memory(const char *path, int must_be_sealed)
{
	int descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (descriptor < 0)
		fail("cannot open the memory", path);
	int seals = fcntl(descriptor, F_GET_SEALS);
	if (must_be_sealed && (seals < 0 || !(seals & F_SEAL_WRITE))) {
		errno = EPERM;
		fail("not sealed:", path);
	}
	settle(descriptor, MEMORY_DESCRIPTOR);
}

static void open_state(const char *path)
{
	int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	if (descriptor < 0)
		fail("cannot open the state", path);
	settle(descriptor, STATE_DESCRIPTOR);
}

int main(int argc, char **argv)
{
	const char *uid = NULL, *gid = NULL, *group = NULL, *tap = NULL, *bridge = NULL, *log = NULL, *mortal = NULL;
	const char *memory = NULL, *sealed = NULL, *state = NULL;
	int index = 1;
	for (; index < argc && strcmp(argv[index], "--") != 0; index += 2) {
		const char **slot = NULL;
		if (strcmp(argv[index], "--uid") == 0)
			slot = &uid;
		else if (strcmp(argv[index], "--gid") == 0)
			slot = &gid;
		else if (strcmp(argv[index], "--group") == 0)
			slot = &group;
		else if (strcmp(argv[index], "--ends-with-parent") == 0)
			slot = &mortal;
		else if (strcmp(argv[index], "--tap") == 0)
			slot = &tap;
		else if (strcmp(argv[index], "--bridge") == 0)
			slot = &bridge;
		else if (strcmp(argv[index], "--memory") == 0)
			slot = &memory;
		else if (strcmp(argv[index], "--sealed-memory") == 0)
			slot = &sealed;
		else if (strcmp(argv[index], "--state") == 0)
			slot = &state;
		else if (strcmp(argv[index], "--log") == 0)
			slot = &log;
		if (slot == NULL || index + 1 >= argc) {
			fprintf(stderr, "berth-launch: unexpected argument %s\n", argv[index]);
			return 126;
		}
		*slot = argv[index + 1];
	}
	if (index + 1 >= argc || (tap == NULL && bridge != NULL) || (uid == NULL) != (gid == NULL) || (group != NULL && uid == NULL)) {
		fprintf(stderr, "usage: berth-launch [--uid N --gid N [--group N]] [--tap NAME [--bridge NAME]] [--memory FILE | --sealed-memory FILE] [--state FILE] [--log FILE] [--ends-with-parent yes] -- PROGRAM ARG...\n");
		return 126;
	}
	char **program = argv + index + 1;

	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0)
		fail("cannot open", "/dev/null");
	/* Whatever was inherited goes first; then the places are held, so that nothing else is opened on them. */
	if (syscall(SYS_close_range, 3, ~0U, 0) != 0)
		fail("cannot close", "inherited descriptors");
	for (int place = TAP_DESCRIPTOR; place <= STATE_DESCRIPTOR; place++)
		if (fcntl(0, F_DUPFD, place) != place)
			fail("cannot hold", "a descriptor");
	if (log != NULL) {
		int file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (file < 0)
			fail("cannot open the log", log);
		if (dup2(file, 1) < 0 || dup2(file, 2) < 0)
			fail("cannot redirect to", log);
	}
	if (tap != NULL)
		open_tap(tap, bridge);
	if (memory != NULL || sealed != NULL)
		open_memory(sealed != NULL ? sealed : memory, sealed != NULL);
	if (state != NULL)
		open_state(state);
	const int kept[] = {tap != NULL, memory != NULL || sealed != NULL, state != NULL};
	for (int place = TAP_DESCRIPTOR; place <= STATE_DESCRIPTOR; place++)
		if (!kept[place - TAP_DESCRIPTOR])
			close(place);
	if (syscall(SYS_close_range, STATE_DESCRIPTOR + 1, ~0U, 0) != 0)
		fail("cannot close", "the rest");

	struct rlimit no_core = {0, 0};
	if (setrlimit(RLIMIT_CORE, &no_core) != 0)
		fail("cannot turn off", "core dumps");
	if (uid != NULL) {
		gid_t own = (gid_t)parse_number(gid);
		gid_t more = group != NULL ? (gid_t)parse_number(group) : 0;
		uid_t user = (uid_t)parse_number(uid);
		if (setgroups(group != NULL ? 1 : 0, &more) != 0 || setresgid(own, own, own) != 0 ||
		    setresuid(user, user, user) != 0)
			fail("cannot become user", uid);
	}
	/* Huge pages make QEMU's own memory 2 to 5 MB larger per VM, and clearing them costs as much as the faults they spare. */
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0)
		fail("cannot turn off", "huge pages");
	/* After the change of user, which would clear it. */
	if (mortal != NULL && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		fail("cannot tie the program to", "its parent");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail("cannot set", "no_new_privs");
	execv(program[0], program);
	int missing = errno == ENOENT;
	fprintf(stderr, "berth-launch: cannot run %s: %s\n", program[0], strerror(errno));
	return missing ? 127 : 126;
}
