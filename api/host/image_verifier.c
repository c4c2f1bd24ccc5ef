#include "api/host/image_verifier.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum state { IDLE, ASKED, READING, READ };

/* @lock guards what follows it. Owner: whoever called image_verifier_open(). */
struct image_verifier {
    const char *image_dir;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;
    bool awaited; /* somebody waits: one at a time, so that threads for other requests are left */
    enum state state;
    struct vmm_image image;
    int result;
    struct error reason;
    uint64_t begun_ms;
    uint64_t ended_ms;
};

static void *run(void *context)
{
    struct image_verifier *verifier = context;
    pthread_mutex_lock(&verifier->lock);
    while (!verifier->closing) {
        if (verifier->state != ASKED) {
            pthread_cond_wait(&verifier->changed, &verifier->lock);
            continue;
        }
        const struct vmm_image image = verifier->image;
        struct error reason = {0};
        verifier->state = READING;
        verifier->begun_ms = clock_monotonic_ms();
        pthread_mutex_unlock(&verifier->lock);
        int result = vmm_image_verify(verifier->image_dir, &image, &reason);
        pthread_mutex_lock(&verifier->lock);
        verifier->result = result;
        verifier->reason = reason;
        verifier->ended_ms = clock_monotonic_ms();
        verifier->state = READ;
        pthread_cond_broadcast(&verifier->changed);
    }
    pthread_mutex_unlock(&verifier->lock);
    return NULL;
}

int image_verifier_open(const char *image_dir, struct image_verifier **ret_verifier, struct error *err)
{
    struct image_verifier *verifier = calloc(1, sizeof *verifier);
    if (verifier == NULL)
        return error_set(err, -ENOMEM, "There is no memory to verify images.");
    verifier->image_dir = image_dir;
    pthread_condattr_t monotonic;
    REQUIRE(pthread_condattr_init(&monotonic) == 0);
    REQUIRE(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    REQUIRE(pthread_cond_init(&verifier->changed, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    REQUIRE(pthread_mutex_init(&verifier->lock, NULL) == 0);
    int failed = pthread_create(&verifier->thread, NULL, run, verifier);
    if (failed == 0) {
        *ret_verifier = verifier;
        return 0;
    }
    pthread_cond_destroy(&verifier->changed);
    pthread_mutex_destroy(&verifier->lock);
    free(verifier);
    return error_set(err, -failed, "No thread could be started to verify images: %s.", strerror(failed));
}

void image_verifier_close(struct image_verifier *verifier)
{
    if (verifier == NULL)
        return;
    pthread_mutex_lock(&verifier->lock);
    verifier->closing = true;
    pthread_cond_broadcast(&verifier->changed);
    pthread_mutex_unlock(&verifier->lock);
    pthread_join(verifier->thread, NULL);
    pthread_cond_destroy(&verifier->changed);
    pthread_mutex_destroy(&verifier->lock);
    free(verifier);
}

/* The lock is held. */
static bool is_about(const struct image_verifier *verifier, const struct vmm_image *image)
{
    return strcmp(verifier->image.name, image->name) == 0 && strcmp(verifier->image.digest, image->digest) == 0;
}

/* Begin to read, or join what is being read or has been. The lock is held. Return: 0 or -EBUSY. */
static int take_place(struct image_verifier *verifier, const struct vmm_image *image)
{
    bool old = verifier->state == READ && clock_monotonic_ms() - verifier->ended_ms > IMAGE_VERIFIER_KEEP_MS;
    if (verifier->awaited || ((verifier->state == ASKED || verifier->state == READING) && !is_about(verifier, image)))
        return -EBUSY;
    if (verifier->state == IDLE || old || !is_about(verifier, image)) {
        verifier->image = *image;
        verifier->state = ASKED;
        pthread_cond_broadcast(&verifier->changed);
    }
    return 0;
}

/* The lock is held, and is given back while it waits. Return: whether the image has been read by @due_ms. */
static bool await(struct image_verifier *verifier, uint64_t due_ms)
{
    const struct timespec until = {.tv_sec = (time_t)(due_ms / 1000), .tv_nsec = (long)(due_ms % 1000) * 1000000};
    verifier->awaited = true;
    while (verifier->state != READ && clock_monotonic_ms() < due_ms)
        (void)pthread_cond_timedwait(&verifier->changed, &verifier->lock, &until);
    verifier->awaited = false;
    return verifier->state == READ;
}

int image_verifier_run(struct image_verifier *verifier, const struct vmm_image *image, uint64_t wait_ms,
                       uint64_t *ret_duration_ms, struct error *err)
{
    pthread_mutex_lock(&verifier->lock);
    int result = take_place(verifier, image);
    if (result == 0 && await(verifier, clock_monotonic_ms() + wait_ms)) {
        verifier->state = IDLE; /* told; the next one reads anew */
        result = verifier->result;
        *err = verifier->reason;
        *ret_duration_ms = verifier->ended_ms - verifier->begun_ms;
    } else {
        result = error_set(err, -EBUSY, "%s is being read; ask again.", verifier->image.name);
    }
    pthread_mutex_unlock(&verifier->lock);
    return result;
}
