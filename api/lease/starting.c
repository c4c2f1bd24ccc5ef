#include "api/lease/starting.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"

void starting_init(struct starting *starting)
{
    *starting = (struct starting){.first = NULL};
    REQUIRE(pthread_mutex_init(&starting->lock, NULL) == 0 && pthread_cond_init(&starting->removed, NULL) == 0);
}

void starting_done(struct starting *starting)
{
    REQUIRE(starting->first == NULL);
    pthread_cond_destroy(&starting->removed);
    pthread_mutex_destroy(&starting->lock);
}

void starting_add(struct starting *starting, struct start *start)
{
    pthread_mutex_lock(&starting->lock);
    start->next = starting->first;
    starting->first = start;
    pthread_mutex_unlock(&starting->lock);
}

void starting_remove(struct starting *starting, struct start *start)
{
    pthread_mutex_lock(&starting->lock);
    struct start **place = &starting->first;
    while (*place != start)
        place = &(*place)->next;
    *place = start->next;
    pthread_cond_broadcast(&starting->removed);
    pthread_mutex_unlock(&starting->lock);
}

static bool is_starting(const struct starting *starting, const struct id *id)
{
    const struct start *start = starting->first;
    while (start != NULL && strcmp(start->id->text, id->text) != 0)
        start = start->next;
    return start != NULL;
}

void starting_await(struct starting *starting, const struct id *id)
{
    pthread_mutex_lock(&starting->lock);
    while (is_starting(starting, id))
        pthread_cond_wait(&starting->removed, &starting->lock);
    pthread_mutex_unlock(&starting->lock);
}
