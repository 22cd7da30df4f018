#include "cli/target.h"

#include "base/str.h"

void target_select(const struct target *t, Sandboxd__V1__ProcessSelector *ret)
{
        sandboxd__v1__process_selector__init(ret);
        if (t->tag) {
                ret->selector_case = SANDBOXD__V1__PROCESS_SELECTOR__SELECTOR_TAG;
                ret->tag = t->tag;
        } else {
                ret->selector_case = SANDBOXD__V1__PROCESS_SELECTOR__SELECTOR_PID;
                ret->pid = t->pid;
        }
}

void target_parse(struct target *t, char *word)
{
        uint64_t pid = 0;

        t->tag = NULL;
        t->pid = 0;
        if (str_to_u64(word, UINT32_MAX, &pid))
                t->pid = (uint32_t)pid;
        else
                t->tag = *word == '@' ? word + 1 : word;
}
