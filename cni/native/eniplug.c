/* What the container runtime runs: it asks the agent, and prints what that answers.
 *
 * The same client as ../executable.py, to the byte, on the wire and in what it prints; it needs no Python
 * on the host and starts in a fraction of the time.  Only the words for an errno are this C library's.
 * ../wire.py has the form of what is sent; its numbers are little-endian, as both machines are.  Nothing is
 * allocated, every wait has an end, and no call is interrupted: there is no signal handler. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAGIC "eniplug\x01"
#define AGENT_AWAY "agent-away: see that `eniplug agent` runs on this node"
#define SYSTEM "[Errno %d] %s", errno, strerror(errno)
#define SYSTEM_AT(path) "[Errno %d] %s: '%s'", errno, strerror(errno), path
#define FAIL(...) (snprintf(why, sizeof why, __VA_ARGS__), false)
#define REFUSE(code, details, ...) (snprintf(said, sizeof said, __VA_ARGS__), refuse(code, details))

enum {
	LIMIT = 1 << 20, /* bytes of a request's body, and of an answer's output */
	CHUNK = 1 << 16,
	MOST = 1024,    /* variables that are sent */
	BODY = 12,      /* where a request's body begins: behind magic and length */
	PAIRS = 30,     /* where its variables do: behind the request's id and their number */
	HEAD = 6,       /* bytes before an answer's output: version, exit status, length */
	PAUSE = 100000, /* microseconds between two looks for an agent that is away */
};

/* The agent's folder; microseconds for which an ADD looks for an agent that is away, that an ADD may
 * take, and all else.  Weak, so that it is read from here: tests replace it in a copy of the program. */
__attribute__((weak)) const struct settings {
	char folder[96];
	uint32_t retry, add, other;
} settings = {"/run/eniplug", 10000000, 110000000, 30000000};

static const char *const versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", NULL};
static const char *const commands[] = {"ADD", "CHECK", "DEL", "GC", "STATUS", NULL};
enum { ADD, CHECK, DEL, GC, STATUS };

static uint8_t input[LIMIT + CHUNK], request[BODY + LIMIT], answer[HEAD + LIMIT];
static size_t input_size, request_size;
static uint32_t output_size; /* of the answer */
static char said[4 * CHUNK], why[512]; /* REFUSE's words (a variable may have 2 * CHUNK bytes), FAIL's */

static _Noreturn void finish(int status)
{
	_exit(fflush(stdout) || ferror(stdout) ? 1 : status);
}

/* Find the configuration's cniVersion without taking the JSON apart. */
static const char *asked_version(void)
{
	static const char key[] = "\"cniVersion\"";
	const uint8_t *end = input + input_size, *at = memmem(input, input_size, key, sizeof key - 1);
	int colons = 0;
	for (at = at ? at + sizeof key - 1 : end; at < end && *at && strchr(": \t\n\v\f\r", *at); at++)
		colons += *at == ':';
	for (const char *const *v = versions; *v && colons == 1 && at < end && *at == '"'; v++) {
		size_t size = strlen(*v), left = (size_t)(end - at) - 1;
		if (left >= size && !memcmp(at + 1, *v, size) && (left == size || at[1 + size] == '"'))
			return *v;
	}
	return "1.0.0";
}

static _Noreturn void answer_version(void)
{
	printf("{\"cniVersion\": \"%s\", \"supportedVersions\": [", asked_version());
	for (const char *const *v = versions; *v; v++)
		printf("\"%s\"%s", *v, v[1] ? ", " : "]}\n");
	finish(0);
}

/* Print an error as the specification has it, in ASCII, and end. */
static _Noreturn void refuse(int code, const char *details)
{
	static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
	printf("{\"cniVersion\": \"%s\", \"code\": %d, \"msg\": \"", asked_version(), code);
	for (const char *c = said; *c; c++) {
		const char *found = strchr(special, *c);
		printf(found ? "\\%c" : *c & 0x80 ? "\\\\x%02x" : *c < ' ' || *c > '~' ? "\\u%04x" : "%c",
		       found ? letter[found - special] : *c & 0xff);
	}
	printf("\", \"details\": \"%s\"}\n", details);
	finish(1);
}

/* Read to the end, or until it is more than could be sent. */
static void read_input(void)
{
	for (ssize_t n = 1; n && input_size <= LIMIT; input_size += (size_t)n) {
		n = read(0, input + input_size, CHUNK);
		if (n < 0)
			REFUSE(5, "read-failed", SYSTEM);
	}
}

/* Return the length of a variable's name if it is sent, else 0.  Of two the first one counts. */
static size_t travels(char **variable)
{
	const char *text = *variable, *equals = strchr(text, '=');
	size_t size = equals ? (size_t)(equals - text) : 0;
	if (strncmp(text, "CNI_", 4) && strncmp(text, "TRACEPARENT=", 12) && strncmp(text, "TRACESTATE=", 11))
		return 0;
	for (char **other = environ; other < variable; other++)
		if (!strncmp(*other, text, size + 1))
			return 0;
	return size;
}

/* Append while there is room; the size tells afterwards whether there was. */
static void append(const void *data, size_t size)
{
	if (request_size <= sizeof request && size <= sizeof request - request_size)
		memcpy(request + request_size, data, size);
	request_size += size;
}

/* Make the request out of the environment and the input. */
static void encode(void)
{
	uint16_t count = 0;
	request_size = PAIRS;
	for (char **variable = environ; *variable; variable++) {
		size_t name = travels(variable), size = strlen(*variable);
		if (!name)
			continue;
		if (size >> 16)
			REFUSE(4, "bad-environment", "%.*s is too long", (int)name, *variable);
		if (++count > MOST)
			REFUSE(4, "bad-environment", "there are too many CNI_* variables");
		append(&(uint16_t){(uint16_t)size}, 2);
		append(*variable, size);
	}
	append(&(uint32_t){(uint32_t)input_size}, 4);
	append(input, input_size);
	if (request_size > sizeof request)
		REFUSE(7, "bad-config: shorten the configuration", "configuration and environment are longer than %d bytes", LIMIT);
	memcpy(request, MAGIC, 8);
	memcpy(request + 8, &(uint32_t){(uint32_t)request_size - BODY}, 4);
	memcpy(request + PAIRS - 2, &count, 2);
	if (getrandom(request + BODY, 16, 0) != 16)
		REFUSE(5, "read-failed", SYSTEM);
}

static long long now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

/* Wait until a call that did not go through can be made again. */
static bool again(int connection, short events, long long end)
{
	struct pollfd one = {connection, events, 0};
	long long left = end - now(CLOCK_MONOTONIC);
	if (errno != EAGAIN)
		return FAIL(SYSTEM);
	return (left > 0 && poll(&one, 1, (int)(left / 1000) + 1) > 0) || FAIL("timed out");
}

static bool send_request(int connection, int netns, long long end)
{
	struct {
		struct cmsghdr head;
		int netns;
	} rights = {{.cmsg_len = CMSG_LEN(sizeof netns), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}, netns};
	for (size_t sent = 0; sent < request_size;) {
		bool first = netns >= 0 && !sent;
		struct iovec rest = {request + sent, request_size - sent};
		struct msghdr message = {.msg_iov = &rest, .msg_iovlen = 1, .msg_control = first ? &rights : NULL,
					 .msg_controllen = first ? sizeof rights : 0};
		ssize_t n = sendmsg(connection, &message, 0);
		if (n < 0 && !again(connection, POLLOUT, end))
			return false;
		sent += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* Receive one whole answer, or fail. */
static bool receive(int connection, long long end)
{
	output_size = 0;
	for (size_t got = 0; got < HEAD + output_size;) {
		ssize_t n = recv(connection, answer + got, sizeof answer - got, 0);
		if (n < 0 && !again(connection, POLLIN, end))
			return false;
		if (n == 0)
			return FAIL("the connection ended before the answer");
		got += n > 0 ? (size_t)n : 0;
		if (got >= HEAD)
			memcpy(&output_size, answer + 2, sizeof output_size);
		if (output_size > LIMIT || (got && answer[0] != MAGIC[7]))
			return FAIL("what answers is no agent of this version");
	}
	return true;
}

/* Ask once; fails when the agent is away, or the connection ends before the answer does. */
static bool call(int netns, long long end)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct stat about;
	snprintf(to.sun_path, sizeof to.sun_path, "%s/agent.sock", settings.folder);
	if (stat(to.sun_path, &about))
		return FAIL(SYSTEM_AT(to.sun_path));
	if (about.st_uid != 0)
		return FAIL("%s is not owned by root", to.sun_path);
	int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool stands = connection >= 0 && !connect(connection, (struct sockaddr *)&to, sizeof to);
	bool done = stands ? send_request(connection, netns, end) && receive(connection, end) : FAIL(SYSTEM);
	close(connection);
	return done;
}

/* Send the request, and repeat it, under its one id, while the agent is away. */
static bool ask(int netns, uint32_t retry, uint32_t patience)
{
	long long end = now(CLOCK_MONOTONIC) + patience, give_up = 0;
	while (!call(netns, end)) {
		long long failed = now(CLOCK_MONOTONIC);
		give_up = give_up ? give_up : failed + retry < end ? failed + retry : end;
		if (failed >= give_up)
			return false;
		usleep(PAUSE);
	}
	return true;
}

/* Leave a DEL as a tombstone, which appears whole or not at all, and in the order of time. */
static bool leave(void)
{
	char graves[128], hidden[192], name[192];
	long long time = now(CLOCK_REALTIME);
	ssize_t n = 1;
	snprintf(graves, sizeof graves, "%s/tombstones", settings.folder);
	snprintf(hidden, sizeof hidden, "%s/.%lld.%d", graves, time, getpid());
	snprintf(name, sizeof name, "%s/%lld.%d", graves, time, getpid());
	if (mkdir(settings.folder, 0700) && errno != EEXIST)
		return FAIL(SYSTEM_AT(settings.folder));
	if (mkdir(graves, 0700) && errno != EEXIST)
		return FAIL(SYSTEM_AT(graves));
	int file = open(hidden, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file < 0)
		return FAIL(SYSTEM_AT(hidden));
	for (size_t done = 0; n > 0 && done < request_size; done += (size_t)n)
		n = write(file, request + done, request_size - done);
	if (n > 0 && !rename(hidden, name))
		return true;
	FAIL(SYSTEM);
	unlink(hidden);
	return false;
}

int main(void)
{
	const char *asked = getenv("CNI_COMMAND") ?: "", *path = getenv("CNI_NETNS") ?: "";
	char away[sizeof why];
	int command = 0;
	signal(SIGPIPE, SIG_IGN);
	if (*asked)
		read_input();
	if (!strcmp(asked, "VERSION"))
		answer_version();
	while (commands[command] && strcmp(commands[command], asked))
		command++;
	if (!commands[command])
		REFUSE(4, "bad-environment: this is run by container runtimes", "CNI_COMMAND is %s", *asked ? asked : "not set");
	encode();
	int netns = command <= DEL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	if (command == ADD && netns < 0)
		REFUSE(4, "bad-netns: it must be the pod's", "CNI_NETNS %s cannot be opened: %s", path, strerror(errno));
	if (ask(netns, command == ADD ? settings.retry : 0, command == ADD ? settings.add : settings.other)) {
		fwrite(answer + HEAD, 1, output_size, stdout);
		finish(answer[1]);
	}
	if (command != DEL)
		REFUSE(command == STATUS ? 50 : 11, AGENT_AWAY, "the eniplug agent does not answer: %s", why);
	memcpy(away, why, sizeof away);
	if (!leave())
		REFUSE(11, AGENT_AWAY, "the eniplug agent is away (%s), and the DEL cannot be left for it: %s", away, why);
	finish(0);
}
