/* Directories that let nobody in, or nothing: what they keep from a checkpoint, and how it makes
 * its way. For the program that makes checkpoints; nothing of it is for the loop. */
#pragma once

/* Opens those on the way to the file, but not through a link. What does not work out is told by who
 * then fails; so of the next one. */
void closed_dirs_open_way(const char *path);
/* Opens the path, if it is a directory, and all below it. */
void closed_dirs_open_tree(const char *path);
