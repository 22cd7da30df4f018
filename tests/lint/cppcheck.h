/* What cppcheck must know of headers that it does not read: enough to parse, not to run. */
#define _GNU_SOURCE      1
#define __x86_64__       1
#define SANDBOXD_VERSION "0"

/* sys/queue.h */
#define TAILQ_HEAD(name, type)      struct name { struct type *first; }
#define TAILQ_ENTRY(type)           struct { struct type *next; }
#define TAILQ_FOREACH(v, h, entry)  for ((v) = (h)->first; (v); (v) = (v)->entry.next)
#define LIST_HEAD(name, type)       struct name { struct type *first; }
#define LIST_ENTRY(type)            struct { struct type *next; }
#define LIST_FOREACH(v, h, entry)   for ((v) = (h)->first; (v); (v) = (v)->entry.next)

/* uv/tree.h */
#define RB_HEAD(name, type)         struct name { struct type *root; }
#define RB_ENTRY(type)              struct { struct type *left, *right; }
#define RB_GENERATE_STATIC(name, type, entry, compare)
#define RB_FOREACH(v, name, h)      for ((v) = RB_MIN(name, h); (v); (v) = RB_NEXT(name, v))

/* jansson.h */
#define json_array_foreach(a, i, v) for (i = 0; (v = json_array_get(a, i)); i++)
