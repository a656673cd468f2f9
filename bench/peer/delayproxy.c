/* UDP proxy that holds every RADIUS datagram for a fixed time, half of it each way, without blocking.
 *
 *   delayproxy DELAY_MICROSECONDS LISTEN_PORT:TARGET_PORT [...]          all on 127.0.0.1
 *
 * SIGUSR1: drop everything (a server that has fallen silent). SIGUSR2: pass again.
 *
 * The identifier of a RADIUS packet cannot be rewritten, the authenticator covers it: each request leaves by an upstream
 * socket on which its identifier is free, a retransmission by the one that its first copy took. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS 256
#define QUEUE (1u << 16)
#define LONGEST 1500
#define HEADER 20
#define FORGET_NS 20000000000ull
#define LISTENER SOCKETS
#define TIMER UINT64_MAX

struct slot {
	struct sockaddr_in peer;
	uint64_t since;
	int used;
};
struct route {
	int listener, upstream[SOCKETS];
	struct slot slots[SOCKETS][256];
	unsigned next[256];
};
struct held {
	uint64_t due;
	struct sockaddr_in to;
	int fd, connected, length;
	char octets[LONGEST];
};

static struct held *queue;
static unsigned head, tail;
static volatile sig_atomic_t silent;

static void fall_silent(int number) { (void)number; silent = 1; }
static void pass_again(int number) { (void)number; silent = 0; }

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void hold(uint64_t due, int fd, const struct sockaddr_in *to, const char *octets, int length) {
	if (tail - head >= QUEUE) return;
	struct held *entry = &queue[tail++ % QUEUE];
	entry->due = due;
	entry->fd = fd;
	entry->connected = !to;
	if (to) entry->to = *to;
	entry->length = length;
	memcpy(entry->octets, octets, (size_t)length);
}

static int open_socket(int port, int target) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int big = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
	if (fd < 0 || bind(fd, (void *)&address, sizeof address)) { perror("bind"); exit(1); }
	address.sin_port = htons((uint16_t)target);
	if (target && connect(fd, (void *)&address, sizeof address)) { perror("connect"); exit(1); }
	return fd;
}

static int choose(struct route *route, uint8_t id, const struct sockaddr_in *from, uint64_t at) {
	for (unsigned back = 1; back <= 32; back++) {
		unsigned index = (route->next[id] - back) % SOCKETS;
		struct slot *slot = &route->slots[index][id];
		if (slot->used && slot->peer.sin_port == from->sin_port && at - slot->since < FORGET_NS) return (int)index;
	}
	for (unsigned step = 0; step < SOCKETS; step++) {
		unsigned index = (route->next[id] + step) % SOCKETS;
		struct slot *slot = &route->slots[index][id];
		if (!slot->used || at - slot->since > FORGET_NS) {
			slot->used = 0;
			return (int)index;
		}
	}
	return -1;
}

static void take(struct route *route, unsigned which, uint64_t half) {
	char octets[LONGEST];
	for (int burst = 0; burst < 64; burst++) {
		struct sockaddr_in from;
		socklen_t size = sizeof from;
		int fd = which == LISTENER ? route->listener : route->upstream[which];
		int length = (int)recvfrom(fd, octets, sizeof octets, 0, (void *)&from, &size);
		if (length < 0) {
			if (errno == ECONNREFUSED) continue;
			return;
		}
		if (length < HEADER || silent) continue;
		uint64_t at = now();
		uint8_t id = (uint8_t)octets[1];
		if (which != LISTENER) {
			struct slot *slot = &route->slots[which][id];
			if (slot->used) hold(at + half, route->listener, &slot->peer, octets, length);
			slot->used = 0;
			continue;
		}
		int index = choose(route, id, &from, at);
		if (index < 0) continue;
		struct slot *slot = &route->slots[index][id];
		if (!slot->used) route->next[id] = (unsigned)index + 1;
		slot->used = 1;
		slot->since = at;
		slot->peer = from;
		hold(at + half, route->upstream[index], NULL, octets, length);
	}
}

int main(int argc, char **argv) {
	if (argc < 3) {
		fprintf(stderr, "usage: delayproxy DELAY_MICROSECONDS LISTEN:TARGET...\n");
		return 2;
	}
	uint64_t half = strtoull(argv[1], NULL, 10) * 1000 / 2;
	int count = argc - 2, poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct route *routes = calloc((size_t)count, sizeof *routes);
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = TIMER};
	queue = malloc(sizeof *queue * QUEUE);
	signal(SIGUSR1, fall_silent);
	signal(SIGUSR2, pass_again);
	epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event);
	for (int i = 0; i < count; i++) {
		int from, to;
		if (sscanf(argv[2 + i], "%d:%d", &from, &to) != 2) return 2;
		routes[i].listener = open_socket(from, 0);
		event.data.u64 = (uint64_t)i << 32 | LISTENER;
		epoll_ctl(poll, EPOLL_CTL_ADD, routes[i].listener, &event);
		for (unsigned k = 0; k < SOCKETS; k++) {
			routes[i].upstream[k] = open_socket(0, to);
			event.data.u64 = (uint64_t)i << 32 | k;
			epoll_ctl(poll, EPOLL_CTL_ADD, routes[i].upstream[k], &event);
		}
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct epoll_event events[64];
		int found = epoll_wait(poll, events, 64, -1);
		if (found < 0 && errno != EINTR) return 1;
		for (int j = 0; j < found; j++) {
			uint64_t expirations, key = events[j].data.u64;
			if (key == TIMER) {
				if (read(timer, &expirations, sizeof expirations) < 0) continue;
			} else
				take(&routes[key >> 32], (uint32_t)key, half);
		}
		uint64_t at = now();
		while (head != tail && queue[head % QUEUE].due <= at) {
			struct held *entry = &queue[head++ % QUEUE];
			const void *to = entry->connected ? NULL : &entry->to;
			if (sendto(entry->fd, entry->octets, (size_t)entry->length, 0, to, to ? sizeof entry->to : 0) < 0) continue;
		}
		struct itimerspec next = {0};
		if (head != tail) {
			uint64_t due = queue[head % QUEUE].due;
			next.it_value.tv_sec = (time_t)(due / 1000000000ull);
			next.it_value.tv_nsec = (long)(due % 1000000000ull);
		}
		timerfd_settime(timer, TFD_TIMER_ABSTIME, &next, NULL);
	}
}
