#include "api/lease/journal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/lease/lease_event.h"
#include "base/clock.h"

/* struct step - One step of a machine with all that its event points to. The journal's, in the order of their coming. */
struct step {
    struct step *next;
    struct vmm_event event;
    char image_digest[VMM_DIGEST_BYTES];
    char accelerator[STORE_WORD_BYTES];
    char detail[VMM_DETAIL_BYTES];
    struct nat_violation violation;
    uint8_t console[];
};

/* struct page - What is not written yet of one lease, and when it was written to last. The journal's. */
struct page {
    struct page *next;
    struct id lease_id;
    struct step *first;
    struct step **end;
    size_t sighting_count;
    size_t sighting_capacity;
    struct sighting *sightings;
    uint64_t due_ms; /* monotonic; no transaction for what a guest brings about before */
};

/*
 * struct journal
 * @lock:    guards all that stands below it; not held while something is written
 * @busy:    the page that is being written to: only its end may change
 * @batch:   the thread's alone
 *
 * Owner: whoever called journal_start(). Pages and steps are added by journal_event() and removed by the thread.
 */
struct journal {
    struct lease_service *service;
    pthread_t thread;
    struct sighting batch[LEASE_EVENT_SIGHTINGS_MAX];
    uint64_t purge_ms;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ending;
    uint64_t last_ms;  /* when to give up once it is ending */
    uint64_t retry_ms; /* nothing is written before; 0 while writing works */
    unsigned wait_ms;
    size_t waiting;
    const struct step *busy;
    struct page *pages;
};

/* ---- taking in: the lock is held --------------------------------------------------------------------------------- */

static struct page *page_of(struct journal *journal, const struct id *lease_id)
{
    struct page **place = &journal->pages;
    while (*place != NULL && strcmp((*place)->lease_id.text, lease_id->text) != 0)
        place = &(*place)->next;
    if (*place == NULL && (*place = calloc(1, sizeof **place)) != NULL) {
        (*place)->lease_id = *lease_id;
        (*place)->end = &(*place)->first;
    }
    return *place;
}

static void copy_text(const char **text, char *ret_copy, size_t capacity)
{
    if (*text == NULL)
        return;
    size_t length = strnlen(*text, capacity - 1);
    memcpy(ret_copy, *text, length);
    ret_copy[length] = '\0';
    *text = ret_copy;
}

static struct step *copy_step(const struct vmm_event *event)
{
    struct step *step = calloc(1, sizeof *step + event->console_bytes);
    if (step == NULL)
        return NULL;
    step->event = *event;
    copy_text(&step->event.image_digest, step->image_digest, sizeof step->image_digest);
    copy_text(&step->event.accelerator, step->accelerator, sizeof step->accelerator);
    copy_text(&step->event.detail, step->detail, sizeof step->detail);
    if (event->violation != NULL) {
        step->violation = *event->violation;
        step->event.violation = &step->violation;
    }
    if (event->console_bytes > 0) {
        memcpy(step->console, event->console, event->console_bytes);
        step->event.console = step->console;
    }
    return step;
}

/* Whether the newer of two tunnel states tells all that the older does: being up and being lost are events. */
static bool outdates(enum nat_tunnel newer, enum nat_tunnel older)
{
    return newer == older || older == NAT_TUNNEL_WAITING || older == NAT_TUNNEL_HANDSHAKING;
}

/* A step that is not written yet and says less than this one. A guest can make many changes of its tunnel. */
static struct step *find_replaceable(const struct journal *journal, const struct page *page,
                                     const struct vmm_event *event)
{
    struct step *newest = NULL;
    size_t count = 0;
    if (event->kind != VMM_EVENT_TUNNEL && event->kind != VMM_EVENT_POLICY)
        return NULL;
    for (struct step *step = page->first; step != NULL; step = step->next)
        if (step != journal->busy && step->event.kind == event->kind) {
            newest = step;
            count++;
        }
    bool replaces = newest != NULL && (event->kind == VMM_EVENT_POLICY || count >= JOURNAL_TUNNEL_MAX ||
                                       outdates(event->tunnel, newest->event.tunnel));
    return replaces ? newest : NULL;
}

/* Return: false when there is no memory. */
static bool add_step(struct journal *journal, struct page *page, const struct vmm_event *event)
{
    struct step *step = find_replaceable(journal, page, event);
    if (step != NULL) {
        step->event = *event; /* these two kinds point to nothing */
        return true;
    }
    step = copy_step(event);
    if (step == NULL)
        return false;
    *page->end = step;
    page->end = &step->next;
    journal->waiting++;
    return true;
}

static uint32_t serial_of(const struct sighting *sighting)
{
    return sighting->by_guest ? sighting->report.serial : sighting->violation.serial;
}

static struct sighting sighting_of(const struct vmm_event *event)
{
    struct sighting sighting = {.first_ms = event->at_ms, .last_ms = event->at_ms};
    sighting.by_guest = event->kind == VMM_EVENT_GUEST_REPORT;
    if (sighting.by_guest)
        sighting.report = *event->guest_report;
    else
        sighting.violation = *event->violation;
    return sighting;
}

/* Return: false when there is no room. */
static bool make_room(struct page *page)
{
    if (page->sighting_count < page->sighting_capacity)
        return true;
    size_t capacity = page->sighting_capacity == 0 ? 8 : 2 * page->sighting_capacity;
    if (capacity > JOURNAL_SIGHTINGS_MAX)
        return false;
    struct sighting *grown = realloc(page->sightings, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    page->sightings = grown;
    page->sighting_capacity = capacity;
    return true;
}

static bool add_sighting(struct journal *journal, struct page *page, const struct vmm_event *event)
{
    struct sighting sighting = sighting_of(event);
    for (size_t at = 0; at < page->sighting_count; at++)
        if (serial_of(&page->sightings[at]) == serial_of(&sighting)) {
            sighting.first_ms = page->sightings[at].first_ms;
            page->sightings[at] = sighting;
            return true;
        }
    if (!make_room(page))
        return false;
    page->sightings[page->sighting_count++] = sighting;
    journal->waiting++;
    return true;
}

void journal_event(void *context, const struct vmm_event *event)
{
    struct journal *journal = context;
    bool is_sighting = event->kind == VMM_EVENT_VIOLATION || event->kind == VMM_EVENT_GUEST_REPORT;
    pthread_mutex_lock(&journal->lock);
    struct page *page = page_of(journal, &event->id);
    bool taken = page != NULL && (is_sighting ? add_sighting(journal, page, event) : add_step(journal, page, event));
    pthread_cond_signal(&journal->wake);
    pthread_mutex_unlock(&journal->lock);
    if (taken)
        return;
    log_line(journal->service->log, LOG_ERROR, "journal.no_room", "lease=%s step=%d", event->id.text, (int)event->kind);
    if (!is_sighting)
        abort(); /* a row would never move again, and its machine wait for ever; the next daemon proves or ends it */
}

/* ---- choosing: the lock is held ---------------------------------------------------------------------------------- */

/* The end of a lease waits for nothing but the violations before it. */
static bool hurries(const struct step *step)
{
    return step != NULL && (step->event.kind == VMM_EVENT_STOPPING || step->event.kind == VMM_EVENT_ENDED);
}

static bool sightings_are_due(const struct journal *journal, const struct page *page, uint64_t now_ms)
{
    return page->sighting_count > 0 && (now_ms >= page->due_ms || hurries(page->first) || journal->ending);
}

static bool step_is_due(const struct journal *journal, const struct page *page, uint64_t now_ms)
{
    const struct step *step = page->first;
    return step != NULL &&
           (step->event.kind != VMM_EVENT_TUNNEL || now_ms >= page->due_ms || hurries(step->next) || journal->ending);
}

/* Pages with nothing on them go once their time between two transactions is over. */
static void clear_pages(struct journal *journal, uint64_t now_ms)
{
    for (struct page **place = &journal->pages; *place != NULL;) {
        struct page *page = *place;
        if (page->first != NULL || page->sighting_count > 0 || now_ms < page->due_ms) {
            place = &page->next;
            continue;
        }
        *place = page->next;
        free(page->sightings);
        free(page);
    }
}

/* The next page to write to, or NULL. @ret_due_ms: when to look again at the latest. */
static struct page *choose(const struct journal *journal, uint64_t now_ms, uint64_t *ret_due_ms)
{
    *ret_due_ms = journal->purge_ms;
    if (now_ms < journal->retry_ms) {
        *ret_due_ms = journal->retry_ms;
        return NULL;
    }
    for (struct page *page = journal->pages; page != NULL; page = page->next) {
        if (sightings_are_due(journal, page, now_ms) || step_is_due(journal, page, now_ms))
            return page;
        if (page->due_ms < *ret_due_ms)
            *ret_due_ms = page->due_ms;
    }
    return NULL;
}

/* ---- writing: the lock is held on both ends ---------------------------------------------------------------------- */

static bool grew(const struct sighting *sighting, const struct sighting *written)
{
    return sighting->violation.count != written->violation.count || sighting->report.count != written->report.count ||
           sighting->violation.terminated != written->violation.terminated;
}

/* What was told of again meanwhile stays, at the front, for the next time. */
static void drop_written(struct journal *journal, struct page *page, size_t count)
{
    size_t kept = 0;
    for (size_t at = 0; at < page->sighting_count; at++) {
        if (at >= count || grew(&page->sightings[at], &journal->batch[at]))
            page->sightings[kept++] = page->sightings[at];
    }
    journal->waiting -= page->sighting_count - kept;
    page->sighting_count = kept;
}

static int write_sightings(struct journal *journal, struct page *page, struct error *err)
{
    size_t count = page->sighting_count;
    if (count > LEASE_EVENT_SIGHTINGS_MAX)
        count = LEASE_EVENT_SIGHTINGS_MAX;
    memcpy(journal->batch, page->sightings, count * sizeof *journal->batch);
    pthread_mutex_unlock(&journal->lock);
    int result = lease_event_sightings(journal->service, &page->lease_id, journal->batch, count, err);
    pthread_mutex_lock(&journal->lock);
    if (result == 0)
        drop_written(journal, page, count);
    return result;
}

static int write_step(struct journal *journal, struct page *page, struct error *err)
{
    struct step *step = page->first;
    journal->busy = step;
    pthread_mutex_unlock(&journal->lock);
    int result = lease_event_write(journal->service, &step->event, err);
    pthread_mutex_lock(&journal->lock);
    journal->busy = NULL;
    if (result != 0)
        return result;
    page->first = step->next;
    if (page->first == NULL)
        page->end = &page->first;
    journal->waiting--;
    free(step);
    return 0;
}

/* A line when writing begins to fail and one when it works again, however often it is tried. */
static void note_result(struct journal *journal, int result, const struct error *err)
{
    const struct log *log = journal->service->log;
    if (result == 0 && journal->wait_ms != 0)
        log_line(log, LOG_WARNING, "journal.writes_again", "waiting=%zu", journal->waiting);
    if (result == 0) {
        journal->wait_ms = 0;
        journal->retry_ms = 0;
        return;
    }
    if (journal->wait_ms == 0)
        log_line(log, LOG_ERROR, "journal.waits", "waiting=%zu cause=\"%s\"", journal->waiting, err->message);
    unsigned doubled = journal->wait_ms == 0 ? JOURNAL_RETRY_MS : 2 * journal->wait_ms;
    journal->wait_ms = doubled < JOURNAL_RETRY_MOST_MS ? doubled : JOURNAL_RETRY_MOST_MS;
    journal->retry_ms = clock_monotonic_ms() + journal->wait_ms;
}

/* What fails for one lease alone must not keep the others waiting. */
static void put_last(struct journal *journal, struct page *page)
{
    struct page **place = &journal->pages;
    while (*place != page)
        place = &(*place)->next;
    *place = page->next;
    while (*place != NULL)
        place = &(*place)->next;
    *place = page;
    page->next = NULL;
}

static void write_page(struct journal *journal, struct page *page)
{
    struct error err = {0};
    uint64_t now_ms = clock_monotonic_ms();
    bool of_guest = page->first == NULL || page->first->event.kind == VMM_EVENT_TUNNEL;
    int result;
    if (sightings_are_due(journal, page, now_ms)) {
        of_guest = true;
        result = write_sightings(journal, page, &err);
    } else {
        result = write_step(journal, page, &err);
    }
    if (of_guest)
        page->due_ms = clock_monotonic_ms() + JOURNAL_GAP_MS;
    if (result != 0)
        put_last(journal, page);
    note_result(journal, result, &err);
}

/* The lock is not needed: purge_ms is the thread's. */
static void purge_evidence(struct journal *journal, uint64_t now_ms)
{
    struct error err = {0};
    journal->purge_ms = now_ms + JOURNAL_PURGE_MS;
    if (store_evidence_purge(journal->service->store, clock_wall_ms(), &err) < 0)
        log_line(journal->service->log, LOG_WARNING, "store.failed", "cause=\"%s\"", err.message);
}

static void wait_until(struct journal *journal, uint64_t due_ms)
{
    const struct timespec until = {.tv_sec = (time_t)(due_ms / 1000), .tv_nsec = (long)(due_ms % 1000) * 1000000};
    (void)pthread_cond_timedwait(&journal->wake, &journal->lock, &until);
}

static void *run(void *context)
{
    struct journal *journal = context;
    purge_evidence(journal, clock_monotonic_ms()); /* for a daemon that was away */
    pthread_mutex_lock(&journal->lock);
    while (true) {
        uint64_t due_ms;
        uint64_t now_ms = clock_monotonic_ms();
        clear_pages(journal, now_ms);
        struct page *page = choose(journal, now_ms, &due_ms);
        if (journal->ending && (journal->waiting == 0 || now_ms >= journal->last_ms))
            break;
        if (page != NULL) {
            write_page(journal, page);
        } else if (now_ms >= journal->purge_ms) {
            pthread_mutex_unlock(&journal->lock);
            purge_evidence(journal, now_ms);
            pthread_mutex_lock(&journal->lock);
        } else {
            wait_until(journal, journal->ending && journal->last_ms < due_ms ? journal->last_ms : due_ms);
        }
    }
    pthread_mutex_unlock(&journal->lock);
    return NULL;
}

/* ---- both ends --------------------------------------------------------------------------------------------------- */

static void free_pages(struct journal *journal)
{
    for (struct page *page; (page = journal->pages) != NULL;) {
        journal->pages = page->next;
        for (struct step *step; (step = page->first) != NULL;) {
            page->first = step->next;
            free(step);
        }
        free(page->sightings);
        free(page);
    }
}

static void done(struct journal *journal)
{
    free_pages(journal);
    pthread_cond_destroy(&journal->wake);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}

int journal_start(struct lease_service *service, struct journal **ret_journal, struct error *err)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the journal.");
    journal->service = service;
    pthread_condattr_t monotonic;
    REQUIRE(pthread_condattr_init(&monotonic) == 0);
    REQUIRE(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    REQUIRE(pthread_cond_init(&journal->wake, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    REQUIRE(pthread_mutex_init(&journal->lock, NULL) == 0);
    int failed = pthread_create(&journal->thread, NULL, run, journal);
    if (failed != 0) {
        done(journal);
        return error_set(err, -failed, "No thread could be started for the journal: %s.", strerror(failed));
    }
    service->journal = journal;
    *ret_journal = journal;
    return 0;
}

void journal_stop(struct journal *journal)
{
    if (journal == NULL)
        return;
    pthread_mutex_lock(&journal->lock);
    journal->ending = true;
    journal->last_ms = clock_monotonic_ms() + JOURNAL_LAST_MS;
    pthread_cond_signal(&journal->wake);
    pthread_mutex_unlock(&journal->lock);
    pthread_join(journal->thread, NULL);
    if (journal->waiting > 0)
        log_line(journal->service->log, LOG_ERROR, "journal.lost", "steps=%zu", journal->waiting);
    journal->service->journal = NULL;
    done(journal);
}

bool journal_holds(struct journal *journal, const struct id *lease_id)
{
    bool holds = false;
    pthread_mutex_lock(&journal->lock);
    for (const struct page *page = journal->pages; page != NULL; page = page->next)
        holds = holds ||
                (strcmp(page->lease_id.text, lease_id->text) == 0 && (page->first != NULL || page->sighting_count > 0));
    pthread_mutex_unlock(&journal->lock);
    return holds;
}

size_t journal_waiting(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    size_t waiting = journal->waiting;
    pthread_mutex_unlock(&journal->lock);
    return waiting;
}
