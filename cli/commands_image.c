#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/image.pb-c.h"

#define DIGEST_SHOWN 19 /* "sha256:" and twelve digits */

static json_t *image_json(const Sandboxd__V1__Image *image)
{
        /* clang-format off */
        return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}",
                         "name", image->name,
                         "source", image->source,
                         "digest", image->digest,
                         "created_at", (json_int_t)(image->created_at ? image->created_at->seconds : 0),
                         "size", (json_int_t)image->size,
                         "files", (json_int_t)image->files,
                         "left_out", (json_int_t)image->left_out);
        /* clang-format on */
}

/* --- import --------------------------------------------------------------------------------- */

struct importing {
        bool json, shows_progress, done;
        int print_result;
};

static void show_progress(const Sandboxd__V1__ImageProgress *progress)
{
        char size[SIZE_TEXT_MAX] = "", step[32];

        if (progress->bytes > 0)
                format_size(progress->bytes, size);
        (void)str_escape(step, sizeof(step), progress->step, strlen(progress->step));
        fprintf(stderr, "\r\033[K%s %s", step, size); /* to the line's beginning; clear it */
}

static void show_image(struct importing *i, const Sandboxd__V1__Image *image)
{
        i->done = true;
        if (i->json) {
                i->print_result = print_json(image_json(image), stdout);
                return;
        }
        printf("%s %s\n", image->name, image->digest);
        if (image->left_out > 0)
                complain("%llu device nodes, FIFOs or sockets were left out",
                         (unsigned long long)image->left_out);
}

static bool on_message(void *data, const ProtobufCMessage *message)
{
        struct importing *i = data;
        const Sandboxd__V1__ImageServiceImportResponse *response =
                (const Sandboxd__V1__ImageServiceImportResponse *)message;

        switch (response->event_case) {
        case SANDBOXD__V1__IMAGE_SERVICE_IMPORT_RESPONSE__EVENT_PROGRESS:
                if (i->shows_progress)
                        show_progress(response->progress);
                break;
        case SANDBOXD__V1__IMAGE_SERVICE_IMPORT_RESPONSE__EVENT_IMAGE:
                if (i->shows_progress)
                        fputs("\r\033[K", stderr);
                i->shows_progress = false;
                show_image(i, response->image);
                break;
        default: /* of a newer daemon */
                break;
        }
        return true;
}

/* The daemon has another working directory: a path that is not absolute is ours. NULL: there is no
 * memory, or no directory. */
static char *absolute(const char *source)
{
        static const char *const kinds[] = {
                "oci:", "oci-archive:", "docker-archive:", "dir:", "tar:", ""};
        char here[PATH_MAX];
        size_t k = 0;

        while (!str_starts(source, kinds[k]))
                k++;
        const char *path = source + strlen(kinds[k]);
        if (str_starts(source, "docker://") || path[0] == '/')
                return strdup(source);
        if (!getcwd(here, sizeof(here)))
                return NULL;
        while (str_starts(path, "./"))
                path += 2;
        if (str_eq(path, "."))
                path = "";
        return str_printf("%s%s%s%s", kinds[k], here, *path && *path != ':' ? "/" : "", path);
}

int command_image_import(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__ImageServiceImportRequest request =
                SANDBOXD__V1__IMAGE_SERVICE_IMPORT_REQUEST__INIT;
        struct importing i = {.json = o->json, .shows_progress = isatty(STDERR_FILENO) == 1};
        uint64_t timeout_ms = o->given & OPTION(TIMEOUT) ? o->timeout_ms : 0;
        struct err e;

        /* On another host our directory means nothing. */
        _cleanup_free_ char *source =
                s->dialer.over_ssh ? strdup(operands[1]) : absolute(operands[1]);
        if (!source)
                return printed(-ENOMEM);
        request.name = operands[0];
        request.source = source;
        request.insecure = o->insecure;
        int r = session_stream(s, &image_service, IMAGE_SERVICE_IMPORT, &request.base, timeout_ms,
                               on_message, &i, &e);
        if (i.shows_progress)
                fputs("\r\033[K", stderr);
        if (r < 0)
                return call_failed(s, &e);
        return printed(i.print_result);
}

/* --- ls, rm --------------------------------------------------------------------------------- */

static json_t *images_json(const Sandboxd__V1__ImageServiceListResponse *reply)
{
        json_t *array = json_array();

        for (size_t i = 0; i < reply->n_images; i++)
                array = json_append(array, image_json(reply->images[i]));
        return array;
}

static int print_images(const Sandboxd__V1__ImageServiceListResponse *reply)
{
        static const char *const head[] = {"NAME", "DIGEST", "SIZE", "FILES", "SOURCE"};
        struct table t = {.columns = ARRAY_SIZE(head)};
        char text[SIZE_TEXT_MAX];

        table_add_row(&t, head);
        for (size_t i = 0; i < reply->n_images; i++) {
                const Sandboxd__V1__Image *image = reply->images[i];
                bool imported = image->digest[0] != '\0';
                char digest[DIGEST_SHOWN + 1], files[24];

                table_add(&t, image->name);
                (void)str_format(digest, sizeof(digest), "%s", image->digest); /* cut */
                table_add(&t, digest);
                format_size(image->size, text);
                table_add(&t, imported ? text : "");
                (void)str_format(files, sizeof(files), "%llu", (unsigned long long)image->files);
                table_add(&t, imported ? files : "");
                table_add(&t, image->source);
        }
        return table_print(&t, stdout);
}

int command_image_ls(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__ImageServiceListRequest request =
                SANDBOXD__V1__IMAGE_SERVICE_LIST_REQUEST__INIT;
        struct err e;

        (void)operands;
        const Sandboxd__V1__ImageServiceListResponse *reply =
                session_call(s, &image_service, IMAGE_SERVICE_LIST, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        return printed(o->json ? print_json(images_json(reply), stdout) : print_images(reply));
}

int command_image_rm(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__ImageServiceRemoveRequest request =
                SANDBOXD__V1__IMAGE_SERVICE_REMOVE_REQUEST__INIT;
        struct err e;

        (void)o;
        request.name = operands[0];
        return session_call(s, &image_service, IMAGE_SERVICE_REMOVE, &request.base, &e)
                       ? EXIT_OK
                       : call_failed(s, &e);
}
