#include "plug.h"

#include <errno.h>
#include <libvdeplug.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const uint8_t BROADCAST[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* How long an answer to a probe may take before the next one, and how many there are. */
#define PROBE_MILLISECONDS 50
#define PROBES 100

void die(const char *why, bool with_errno)
{
	if (with_errno)
		perror(why);
	else
		fprintf(stderr, "%s\n", why);
	exit(1);
}

int plug_open(char *switch_directory)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	struct vde_open_args arguments = {0, NULL, 0};
	VDECONN *plug = vde_open(switch_directory, "bench", &arguments);
	if (plug == NULL)
		die("vde_open", true);
	return vde_datafd(plug);
}

void station_mac(uint8_t mac[6], unsigned station)
{
	const uint8_t made[6] = {0x02, 0xbe, 0x7c, 0x00, (uint8_t)(station >> 8), (uint8_t)station};
	memcpy(mac, made, sizeof made);
}

void frame_fill(void *buffer, size_t size, const uint8_t *to, const uint8_t *from, enum kind kind, uint64_t sequence)
{
	struct test_frame head = {.ethertype = {0x88, 0xb5}, .kind = (uint8_t)kind, .sequence = sequence};
	memcpy(head.destination, to, 6);
	memcpy(head.source, from, 6);
	memset(buffer, 0x5a, size);
	memcpy(buffer, &head, sizeof head);
}

struct test_frame *frame_of(void *buffer, size_t length)
{
	struct test_frame *frame = buffer;
	if (length < sizeof *frame || frame->ethertype[0] != 0x88 || frame->ethertype[1] != 0xb5)
		return NULL;
	return frame;
}

void say_hello(int fd, unsigned station)
{
	uint8_t own[6], buffer[SMALL_FRAME];
	station_mac(own, station);
	frame_fill(buffer, sizeof buffer, BROADCAST, own, HELLO, 0);
	if (send(fd, buffer, sizeof buffer, 0) < 0)
		die("send hello", true);
}

void meet(int fd, unsigned station, unsigned peer)
{
	uint8_t own[6], other[6], buffer[SMALL_FRAME];
	station_mac(own, station);
	station_mac(other, peer);
	for (int attempt = 0; attempt < PROBES; attempt++) {
		frame_fill(buffer, sizeof buffer, other, own, PROBE, 0);
		if (send(fd, buffer, sizeof buffer, 0) < 0)
			die("send probe", true);
		uint64_t until = now_ns() + PROBE_MILLISECONDS * 1000000ull;
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		while (now_ns() < until && poll(&readable, 1, PROBE_MILLISECONDS) > 0) {
			ssize_t length = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
			struct test_frame *frame = length < 0 ? NULL : frame_of(buffer, (size_t)length);
			if (frame != NULL && frame->kind == ACK && memcmp(frame->source, other, 6) == 0)
				return;
		}
	}
	die("the peer does not answer through this switch", false);
}

uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

unsigned number(const char *text, const char *what)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value > UINT32_MAX) {
		fprintf(stderr, "%s \"%s\" is not a number\n", what, text);
		exit(1);
	}
	return (unsigned)value;
}

void receive_timeout(int fd, unsigned milliseconds)
{
	struct timeval timeout = {milliseconds / 1000, (milliseconds % 1000) * 1000};
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0)
		die("SO_RCVTIMEO", true);
}

void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

void await_word(void)
{
	char letter;
	do {
		if (read(STDIN_FILENO, &letter, 1) != 1)
			exit(0);
	} while (letter != '\n');
}

bool word_waiting(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	return poll(&input, 1, 0) > 0;
}
