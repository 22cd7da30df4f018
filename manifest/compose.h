/* Keys of Compose files, which people write into sandbox.yaml out of habit. */
#pragma once

/* What to do instead, as the end of a sentence; NULL: it is no such key. */
const char *compose_hint(const char *key);
