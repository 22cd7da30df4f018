/* Carries bytes between a connection and two descriptors, both ways, until the connection's other
 * end closes. */
#pragma once

/* What comes from `in` goes to the socket, whose writing side is closed at the end of it; what
 * comes from the socket goes to `out`. Either way at most 64 KiB wait; a side that does not read
 * holds up its own way only. Returns 0 at the end of what the socket sends, once all of it is
 * written; a negative errno when a side fails: -EPIPE, when nobody reads `out` any more. `in` and
 * `out` are non-blocking meanwhile, for whoever else has them too. */
int relay_run(int in, int out, int socket);
