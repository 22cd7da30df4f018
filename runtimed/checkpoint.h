/* What the files of a directory were when a task began, kept with git in a repository of our own:
 *
 *     .runtimed/checkpoints/git        objects, and refs/tasks/<number>/{before,after,modes,left}
 *                           index-...  what was last seen of one directory
 *
 * The user's own repository is not touched, nor read: neither HEAD, branches and index, nor hooks,
 * configuration and attributes. What its .gitignore files name is left out, as are the directories
 * that packages are installed into; what lies in `.git` directories, too. A repository within the
 * directory counts as files, as everything else does.
 *
 * All of it blocks, for as long as reading every new file takes: it runs as a program of its own,
 *
 *     runtimed --checkpoint save|changes|revert CHECKPOINTS NUMBER DIRECTORY
 *
 * save: records what there is. changes: records what there is now, and prints how it differs, as
 * "A path", "M path", "D path", each with a NUL at its end, in the order of the paths. revert:
 * makes all be as it was, and prints "restored N" and "removed N", on a line each. What goes wrong
 * is said on stderr, on the last line. */
#pragma once

/* The operands behind --checkpoint, NULL at the end. Returns the exit status. */
int checkpoint_main(char **argv);
