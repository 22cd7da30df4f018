/* What an idle sandbox costs its host: memory that is not needed goes back. */
#pragma once

/* Gives back what is free of the heap, and lets go of the pages of our own program, which come back
 * from the page cache when they are used again: of a kernel that maps sixteen pages for each that
 * is touched most would else stay for nothing. */
void footprint_release(void);
