/* Runs chains of CNI executables for many pods, as a container runtime does, and times them.
 *   runtime AT_ONCE PODS STEPS VARIABLES
 *
 * Standard input has for each pod VARIABLES lines of its environment, and for each step a line with the
 * executable and one with its configuration, a JSON object.  One that does not end in a brace is given what the
 * step before has printed, and the brace.
 *
 * Prints the nanoseconds from the first pod's begin to the last one's end; and for each pod a line with its own,
 * from before its first start until its last end was seen, one with the exit status of its last step, and one
 * with what that printed.  A step that fails is its pod's last.
 *
 * Each pod in work has a thread, so nobody's end is seen late; starts stand in line, as in a runtime that is
 * written in Go (syscall.ForkLock).  What executables read and print is in memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT = 1 << 16, STACK = 1 << 18 };

struct step {
	char *program, *configuration;
};

struct pod {
	char **environment, *output;
	struct step *steps;
	int in, out, status;
	long long began, ended;
};

static struct pod *pods;
static int count, steps;
static atomic_int next_pod;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t ready;

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

static void *room(size_t number, size_t size)
{
	void *made = calloc(number, size);
	if (!made)
		fail("memory");
	return made;
}

static char *read_line(void)
{
	char *text = NULL;
	size_t size = 0;
	ssize_t got = getline(&text, &size, stdin);
	if (got < 1)
		fail("standard input");
	text[got - 1] = '\0';
	return text;
}

static void clear(int file)
{
	if (ftruncate(file, 0) || lseek(file, 0, SEEK_SET))
		fail("clear");
}

static void write_input(struct pod *pod, const char *text)
{
	size_t size = strlen(text);
	clear(pod->in);
	if (dprintf(pod->in, size && text[size - 1] == '}' ? "%s" : "%s%s}", text, pod->output) < 0)
		fail("input");
	lseek(pod->in, 0, SEEK_SET);
}

static void read_output(struct pod *pod)
{
	ssize_t size = pread(pod->out, pod->output, OUTPUT, 0);
	if (size < 0 || size == OUTPUT)
		fail("output");
	pod->output[size] = '\0';
	for (char *c = pod->output; (c = strchr(c, '\n'));)
		*c = ' ';
}

static pid_t start(struct pod *pod, char *program)
{
	posix_spawn_file_actions_t files;
	char *words[] = {program, NULL};
	pid_t child;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, pod->in, 0);
	posix_spawn_file_actions_adddup2(&files, pod->out, 1);
	pthread_mutex_lock(&starting);
	errno = posix_spawn(&child, program, &files, NULL, words, pod->environment);
	pthread_mutex_unlock(&starting);
	if (errno)
		fail(program);
	posix_spawn_file_actions_destroy(&files);
	return child;
}

static void run(struct pod *pod)
{
	pod->began = now();
	for (struct step *step = pod->steps; step < pod->steps + steps && !pod->status; step++) {
		if (step > pod->steps) {
			read_output(pod);
			write_input(pod, step->configuration);
			clear(pod->out);
		}
		if (waitpid(start(pod, step->program), &pod->status, 0) < 0)
			fail("waitpid");
	}
	pod->ended = now();
	read_output(pod);
}

static void *work(void *nothing)
{
	pthread_barrier_wait(&ready);
	for (int n; (n = atomic_fetch_add(&next_pod, 1)) < count;)
		run(&pods[n]);
	return nothing;
}

static void read_pod(struct pod *pod, int variables)
{
	pod->environment = room(variables + 1, sizeof *pod->environment);
	pod->steps = room(steps, sizeof *pod->steps);
	pod->output = room(1, OUTPUT);
	for (int n = 0; n < variables; n++)
		pod->environment[n] = read_line();
	for (int n = 0; n < steps; n++)
		pod->steps[n] = (struct step){read_line(), read_line()};
	pod->in = memfd_create("in", MFD_CLOEXEC);
	pod->out = memfd_create("out", MFD_CLOEXEC);
	write_input(pod, pod->steps[0].configuration);
}

int main(int words, char **word)
{
	if (words != 5)
		return 2;
	int at_once = atoi(word[1]), variables = atoi(word[4]);
	count = atoi(word[2]), steps = atoi(word[3]);
	pods = room(count, sizeof *pods);
	for (int n = 0; n < count; n++)
		read_pod(&pods[n], variables);

	pthread_t threads[at_once];
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK);
	pthread_barrier_init(&ready, NULL, at_once + 1);
	for (int n = 0; n < at_once; n++)
		if ((errno = pthread_create(&threads[n], &small, work, NULL)))
			fail("thread");
	pthread_barrier_wait(&ready);
	for (int n = 0; n < at_once; n++)
		pthread_join(threads[n], NULL);

	long long first = pods->began, last = pods->ended;
	for (struct pod *pod = pods; pod < pods + count; pod++) {
		first = pod->began < first ? pod->began : first;
		last = pod->ended > last ? pod->ended : last;
	}
	printf("%lld\n", last - first);
	for (struct pod *pod = pods; pod < pods + count; pod++)
		printf("%lld\n%d\n%s\n", pod->ended - pod->began, pod->status, pod->output);
	return 0;
}
