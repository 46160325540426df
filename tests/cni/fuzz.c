/* Runs the native executable's main() on any environment, configuration and answer, by libFuzzer.
 *
 * .ci/fuzz compiles it together with a copy of eniplug.c whose folder and patience are made for this.
 * What the system would do for it is done here: the agent is the other end of a socketpair that
 * has the answer in it already.  An input is: command, flags, length of the environment (u16),
 * length of the configuration (u16), environment (variables with NUL between), configuration, answer. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static jmp_buf ended;
static int exit_status;

static _Noreturn void end_here(int status)
{
	exit_status = status & 0xff;
	longjmp(ended, 1);
}

static int connect_here(int connection);

#define main eniplug_main
#define _exit(status) end_here(status)
#define connect(connection, address, size) connect_here(connection)
#define stat(path, about) (flags & NOT_ROOTS ? stat("/proc/self/fd/0", about) : stat("/", about))
#define rename(from, to) unlink(from)
#define usleep(time) (void)0
enum { NO_NAMESPACE = 1, STAYS_OPEN = 2, HUGE_VARIABLE = 4, HUGE_CONFIG = 8, REFUSES = 16, NOT_ROOTS = 32 };
static int flags;
#include "eniplug.c"
#undef main
#undef _exit
#undef connect
#undef stat
#undef rename

#define CHECK_THAT(condition) ((condition) ? (void)0 : (fprintf(stderr, "not so: " #condition "\n"), abort()))

static const uint8_t *given;
static size_t given_size;
static bool may_succeed; /* also without an answer */
static int peer = -1;

static int connect_here(int connection)
{
	int pair[2];
	if (flags & REFUSES) {
		errno = ECONNREFUSED;
		return -1;
	}
	CHECK_THAT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	CHECK_THAT(dup2(pair[0], connection) == connection);
	close(pair[0]);
	if (peer >= 0)
		close(peer);
	peer = pair[1];
	CHECK_THAT(write(peer, given, given_size) == (ssize_t)given_size);
	if (!(flags & STAYS_OPEN))
		shutdown(peer, SHUT_WR);
	return 0;
}

/* Read all that the peer has been sent; returns how much, and its beginning. */
static size_t heard(uint8_t *to, size_t room)
{
	size_t got = 0;
	for (ssize_t n; peer >= 0 && got < room && (n = read(peer, to + got, room - got)) > 0;)
		got += (size_t)n;
	return got;
}

static void check_error(const char *text, size_t size)
{
	static const char head[] = "{\"cniVersion\": \"", tail[] = "\"}\n";
	CHECK_THAT(size > sizeof head + sizeof tail && !memcmp(text, head, sizeof head - 1));
	CHECK_THAT(!memcmp(text + size - (sizeof tail - 1), tail, sizeof tail - 1));
	for (size_t i = 0; i + 1 < size; i++)
		CHECK_THAT(text[i] >= ' ' && text[i] <= '~');
}

static void check(void)
{
	static char printed[4 << 20];
	static uint8_t sent[2 << 20];
	uint32_t length = 0;
	ssize_t size = pread(1, printed, sizeof printed, 0);
	size_t got = heard(sent, sizeof sent);

	if (given_size >= HEAD)
		memcpy(&length, given + 2, 4);
	if (got >= BODY) {
		uint32_t body;
		memcpy(&body, sent + 8, 4);
		CHECK_THAT(!memcmp(sent, MAGIC, 8) && body <= LIMIT && body + BODY == request_size);
	}
	bool whole = given_size >= HEAD && given[0] == 1 && length <= LIMIT && given_size >= HEAD + length;
	if (whole && got && got == request_size) {
		CHECK_THAT(exit_status == given[1] && (size_t)size == length);
		CHECK_THAT(!memcmp(printed, given + HEAD, length));
	} else if (exit_status || !may_succeed) {
		CHECK_THAT(exit_status == 1);
		check_error(printed, (size_t)size);
	}
}

static int console, into, from;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	console = dup(1);
	into = memfd_create("stdout", MFD_CLOEXEC);
	from = memfd_create("stdin", MFD_CLOEXEC);
	CHECK_THAT(dup2(into, 1) == 1 && dup2(from, 0) == 0 && (geteuid() || !fchown(0, 1, 1)));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[1 << 16], huge[70000];
	static char *variables[2000], command[32];
	char **ours = environ;
	size_t count = 0, sizes[2];

	if (size < 6 || size > sizeof text)
		return 0;
	flags = data[1];
	sizes[0] = data[2] | data[3] << 8;
	sizes[1] = data[4] | data[5] << 8;
	uint8_t chosen = data[0] % 8;
	may_succeed = chosen == DEL || chosen == 5 || chosen == 7;
	data += 6;
	size -= 6;
	for (int i = 0; i < 2; size -= sizes[i++])
		sizes[i] = sizes[i] > size ? size : sizes[i];
	given = data + sizes[0] + sizes[1];
	given_size = size;

	memcpy(text, data, sizes[0]);
	text[sizes[0]] = 0;
	if (chosen < 7) {
		snprintf(command, sizeof command, "CNI_COMMAND=%s", chosen < 5 ? commands[chosen] : chosen == 5 ? "VERSION" : "");
		variables[count++] = command;
	}
	if (!(flags & NO_NAMESPACE))
		variables[count++] = "CNI_NETNS=/proc/self/ns/net";
	for (size_t at = 0; at < sizes[0] && count < 1998; at += strlen(text + at) + 1)
		variables[count++] = text + at;
	if (flags & HUGE_VARIABLE) {
		memset(huge, 'x', sizeof huge - 1);
		memcpy(huge, "CNI_ARGS=", 9);
		variables[count++] = huge;
	}
	variables[count] = NULL;

	CHECK_THAT(!ftruncate(0, 0) && !ftruncate(1, 0));
	CHECK_THAT(pwrite(0, data + sizes[0], sizes[1], 0) == (ssize_t)sizes[1]);
	if (flags & HUGE_CONFIG)
		CHECK_THAT(!ftruncate(0, LIMIT - 64 + (off_t)sizes[0] % 128));
	lseek(0, 0, SEEK_SET);
	lseek(1, 0, SEEK_SET);
	input_size = request_size = 0;
	environ = variables;
	if (!setjmp(ended))
		eniplug_main();
	environ = ours;
	check();
	if (peer >= 0)
		close(peer);
	peer = -1;
	for (int open = 3; open < 32; open++) /* those of the process that would have ended */
		if (open != console && open != into && open != from)
			close(open);
	return 0;
}
