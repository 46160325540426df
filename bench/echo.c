/* UDP round trips and TCP streams between two network namespaces.
 *   echo serve NAMESPACE                 answers datagrams, and swallows streams
 *   echo ask NAMESPACE ADDRESS COUNT     prints each round trip in nanoseconds
 *   echo pour NAMESPACE ADDRESS MS       sends for so long; prints bytes per second
 *
 * Both ends of a round trip are on the first processor; those of a stream where the kernel likes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7777, BYTES = 32, WARM = 200, CHUNK = 1 << 17 };

static char data[CHUNK];
static struct sockaddr_in other = {.sin_family = AF_INET};

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int bound(int kind)
{
	int one = socket(AF_INET, kind, 0), yes = 1;
	setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(one, (void *)&other, sizeof other) || (kind == SOCK_STREAM && listen(one, 8)))
		fail("bind");
	return one;
}

static int connected(int kind)
{
	struct timeval patience = {2, 0};
	int one = socket(AF_INET, kind, 0);
	setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(one, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(one, (void *)&other, sizeof other))
		fail("connect");
	return one;
}

static void first_processor(void)
{
	cpu_set_t first;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof first, &first);
}

static void swallow(int listener)
{
	int one = accept(listener, NULL, NULL);
	cpu_set_t all;
	memset(&all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, &all);
	while (recv(one, data, CHUNK, 0) > 0)
		;
	close(one); /* tells who pours that all has come */
	first_processor();
}

static _Noreturn void serve(void)
{
	struct pollfd files[] = {{bound(SOCK_DGRAM), POLLIN, 0}, {bound(SOCK_STREAM), POLLIN, 0}};

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	first_processor();
	if (write(1, "\n", 1) != 1)
		fail("ready");
	for (;;) {
		socklen_t size = sizeof other;
		ssize_t got = recvfrom(files[0].fd, data, BYTES, MSG_DONTWAIT, (void *)&other, &size);
		if (got >= 0)
			sendto(files[0].fd, data, got, 0, (void *)&other, size);
		else if (poll(files, 2, -1) > 0 && files[1].revents)
			swallow(files[1].fd);
	}
}

static void ask(int trips)
{
	int one = connected(SOCK_DGRAM);

	first_processor();
	for (int turn = -WARM; turn < trips; turn++) {
		long long began = now();
		if (send(one, data, BYTES, 0) < 0 || recv(one, data, BYTES, 0) < 0)
			fail("ask");
		if (turn >= 0)
			printf("%lld\n", now() - began);
	}
}

static void pour(long long milliseconds)
{
	int one = connected(SOCK_STREAM);
	long long began = now(), sent = 0;

	while (now() < began + milliseconds * 1000000) {
		ssize_t size = send(one, data, CHUNK, 0);
		if (size < 0)
			fail("pour");
		sent += size;
	}
	shutdown(one, SHUT_WR);
	if (recv(one, data, 1, 0))
		fail("end");
	printf("%.0f\n", sent * 1e9 / (now() - began));
}

int main(int count, char **word)
{
	int netns = count < 3 ? -1 : open(word[2], O_RDONLY | O_CLOEXEC);

	if (netns < 0 || setns(netns, CLONE_NEWNET))
		fail("namespace");
	other.sin_port = htons(PORT);
	if (!strcmp(word[1], "serve"))
		serve();
	if (count < 5 || inet_pton(AF_INET, word[3], &other.sin_addr) != 1)
		return 2;
	if (!strcmp(word[1], "ask"))
		ask(atoi(word[4]));
	else
		pour(atoi(word[4]));
	return 0;
}
