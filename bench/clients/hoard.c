/* hoard SWITCH FIRST_STATION COUNT
 *
 * Plugs in COUNT times from one process, makes each station known to the switch, and then only reads, as idle
 * guests do. Ends when it is told to stop.
 * Prints {"plugs", "open_ns"}: `open_ns` is the time all vde_open calls took together.
 */
#include "plug.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 4)
		die("usage: hoard SWITCH FIRST_STATION COUNT", false);
	unsigned station = number(argv[2], "FIRST_STATION"), count = number(argv[3], "COUNT");
	/* One more for standard input. */
	struct pollfd *watched = calloc(count + 1, sizeof *watched);
	if (watched == NULL)
		die("calloc", true);
	uint64_t before = now_ns();
	for (unsigned i = 0; i < count; i++)
		watched[i] = (struct pollfd){.fd = plug_open(argv[1]), .events = POLLIN};
	uint64_t taken = now_ns() - before;
	watched[count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};

	/* The first is known to all, the others only to the switch: their greeting goes to the first alone. */
	uint8_t first[6], own[6], buffer[2048];
	station_mac(first, station);
	if (count > 0)
		say_hello(watched[0].fd, station);
	for (unsigned i = 1; i < count; i++) {
		station_mac(own, station + i);
		frame_fill(buffer, SMALL_FRAME, first, own, HELLO, 0);
		if (send(watched[i].fd, buffer, SMALL_FRAME, 0) < 0)
			die("send", true);
	}
	say_ready();
	for (;;) {
		if (poll(watched, count + 1, -1) < 0 && errno != EINTR)
			die("poll", true);
		if (watched[count].revents != 0)
			break;
		for (unsigned i = 0; i < count; i++) {
			if (watched[i].revents == 0)
				continue;
			if (recv(watched[i].fd, buffer, sizeof buffer, MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != EINTR)
				die("recv", true);
		}
	}
	printf("{\"plugs\": %u, \"open_ns\": %" PRIu64 "}\n", count, taken);
	return 0;
}
