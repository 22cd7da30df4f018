/* Users and groups of this host in the configuration, and the roles that they are given. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "config/config.h"
#include "config/values.h"

/* o: of the type, or with the item type, OPTION_USER or OPTION_GROUP. Each replaces what the field
 * holds, and leaves it unchanged on failure. They ask the host's databases (getpwnam_r(3),
 * getgrnam_r(3)), which may block. */
int principal_set(const struct config_option *o, struct config_principal *field,
                  const struct option_item *item, struct err *e);
int grants_set(const struct config_option *o, struct config_grants *field,
               const struct option_value *v, struct err *e);

/* As YAML, on one line. */
void grants_write(const struct config_option *o, const struct config_grants *grants, FILE *f);

void grants_free(struct config_grants *grants); /* leaves none */
