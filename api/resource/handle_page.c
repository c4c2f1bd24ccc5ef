/* What the binary carries: the status page, the contract, the text of each problem. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/problem.h"
#include "api/resource/handle.h"
#include "embed.h"

enum {
    PROBLEM_TEXT_BYTES = 1024, /* title, explanation and the words around them */
};

static void respond_embedded(const struct request *request, struct response *response, const char *path,
                             const char *content_type)
{
    for (const struct embed_file *file = embed_files; file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0) {
            response_static(response, 200, content_type, file->bytes, file->length);
            return;
        }
    }
    problem_respond(response, request, PROBLEM_NOT_FOUND, "This build does not carry the file.");
}

void handle_openapi(void *context, const struct request *request, struct response *response)
{
    (void)context;
    respond_embedded(request, response, "openapi.yaml", "application/yaml");
}

void handle_page(void *context, const struct request *request, struct response *response)
{
    (void)context;
    respond_embedded(request, response, "web/index.html", "text/html; charset=utf-8");
}

void handle_script(void *context, const struct request *request, struct response *response)
{
    (void)context;
    respond_embedded(request, response, "web/app.js", "text/javascript; charset=utf-8");
}

void handle_style(void *context, const struct request *request, struct response *response)
{
    (void)context;
    respond_embedded(request, response, "web/style.css", "text/css; charset=utf-8");
}

void handle_problem_text(void *context, const struct request *request, struct response *response)
{
    (void)context;
    enum problem problem;
    if (!problem_find(request->parameters[0], &problem)) {
        problem_respond(response, request, PROBLEM_NOT_FOUND, "There is no problem of this name.");
        return;
    }
    char *text = malloc(PROBLEM_TEXT_BYTES);
    if (text == NULL) {
        response_json(response, 200, NULL);
        return;
    }
    const struct problem_type *type = problem_type(problem);
    int length = snprintf(text, PROBLEM_TEXT_BYTES, "%s (%u %s)\n\n%s\n\nThe same request may succeed later: %s.\n",
                          type->title, type->status, type->slug, type->explanation, type->retryable ? "yes" : "no");
    size_t bytes = length < PROBLEM_TEXT_BYTES ? (size_t)length : PROBLEM_TEXT_BYTES - 1;
    response_take(response, 200, "text/plain; charset=utf-8", text, bytes, free);
}
