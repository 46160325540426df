/* UDP round trips between two network namespaces, both ends on one processor.
 *   echo serve NAMESPACE
 *   echo ask NAMESPACE ADDRESS COUNT     prints each round trip in nanoseconds
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { PORT = 7777, BYTES = 32, WARM = 200 };

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int count, char **word)
{
	char data[BYTES] = {0};
	struct sockaddr_in other = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	cpu_set_t first;
	int one, netns;

	if (count < 3)
		return 2;
	netns = open(word[2], O_RDONLY | O_CLOEXEC);
	if (netns < 0 || setns(netns, CLONE_NEWNET))
		return perror(word[2]), 1;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof first, &first);
	one = socket(AF_INET, SOCK_DGRAM, 0);
	if (!strcmp(word[1], "serve")) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (bind(one, (void *)&other, sizeof other))
			return perror("bind"), 1;
		for (;;) {
			socklen_t size = sizeof other;
			ssize_t got = recvfrom(one, data, BYTES, 0, (void *)&other, &size);
			if (got >= 0)
				sendto(one, data, got, 0, (void *)&other, size);
		}
	}
	if (count < 5 || inet_pton(AF_INET, word[3], &other.sin_addr) != 1)
		return 2;
	struct timeval patience = {2, 0};
	setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(one, (void *)&other, sizeof other))
		return perror("connect"), 1;
	for (int turn = -WARM; turn < atoi(word[4]); turn++) {
		long long began = now();
		if (send(one, data, BYTES, 0) < 0 || recv(one, data, BYTES, 0) < 0)
			return perror(word[3]), 1;
		if (turn >= 0)
			printf("%lld\n", now() - began);
	}
	return 0;
}
