#include "tests/store/store_fixture.h"

#include <errno.h>
#include <string.h>

static struct store_lease get(struct store_fixture *fixture, struct id id)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    return lease;
}

static void tunnel(struct store_fixture *fixture, struct id id, const char *word, uint64_t at_ms)
{
    struct error err = {0};
    assert_works(store_lease_tunnel(fixture->store, id.text, word, (struct store_ports){0}, at_ms, &err), err);
}

static void expect_tunnel(struct store_fixture *fixture, struct id id, const char *word, uint64_t established_ms,
                          uint64_t last_handshake_ms)
{
    struct store_lease lease = get(fixture, id);
    assert_string_equal(lease.tunnel_state, word);
    assert_int_equal(lease.tunnel_established_ms, established_ms);
    assert_int_equal(lease.tunnel_last_handshake_ms, last_handshake_ms);
}

static void a_tunnel_is_told_when_it_comes_up_and_when_it_is_lost(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    expect_tunnel(fixture, id, "waiting", 0, 0);
    tunnel(fixture, id, "handshaking", 10);
    expect_tunnel(fixture, id, "handshaking", 0, 0);
    tunnel(fixture, id, "established", 20);
    expect_tunnel(fixture, id, "established", 20, 20);
    tunnel(fixture, id, "handshaking", 30); /* new keys */
    expect_tunnel(fixture, id, "handshaking", 20, 20);
    tunnel(fixture, id, "established", 31);
    expect_tunnel(fixture, id, "established", 20, 31);
    tunnel(fixture, id, "established", 40);
    expect_tunnel(fixture, id, "established", 20, 40);
    tunnel(fixture, id, "waiting", 50);
    expect_tunnel(fixture, id, "waiting", 0, 40);
    tunnel(fixture, id, "established", 60);
    expect_tunnel(fixture, id, "established", 60, 60);
    assert_string_equal(fixture_text(fixture, "SELECT group_concat(type || at_ms || data, ' ')"
                                              " FROM events WHERE sequence > 1"),
                        "tunnel.established20{} tunnel.lost50{} tunnel.established60{}");
}

static void a_silent_tunnel_is_lost_and_may_come_up_again(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    tunnel(fixture, id, "lost", 5); /* was never up: nothing to tell */
    tunnel(fixture, id, "established", 20);
    tunnel(fixture, id, "lost", 30);
    expect_tunnel(fixture, id, "lost", 0, 20);
    tunnel(fixture, id, "lost", 31);
    tunnel(fixture, id, "handshaking", 40);
    tunnel(fixture, id, "established", 50);
    expect_tunnel(fixture, id, "established", 50, 50);
    assert_string_equal(fixture_text(fixture, "SELECT group_concat(type || at_ms, ' ') FROM events WHERE sequence > 1"),
                        "tunnel.established20 tunnel.lost30 tunnel.established50");
}

static void a_change_of_the_tunnel_raises_the_generation_and_a_repetition_does_not(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    tunnel(fixture, id, "waiting", 5);
    assert_int_equal(get(fixture, id).generation, 1);
    tunnel(fixture, id, "handshaking", 5);
    tunnel(fixture, id, "handshaking", 6);
    assert_int_equal(get(fixture, id).generation, 2);
    tunnel(fixture, id, "established", 7);
    tunnel(fixture, id, "established", 8); /* the time of the last handshake is part of the lease */
    assert_int_equal(get(fixture, id).generation, 4);
}

static void an_unknown_tunnel_state_is_refused_and_undone(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    assert_int_equal(store_lease_tunnel(fixture->store, id.text, "broken", (struct store_ports){0}, 1, &err), -EINVAL);
    assert_int_equal(get(fixture, id).generation, 1);
    expect_tunnel(fixture, id, "waiting", 0, 0);
}

static void a_peer_reads_back_with_its_lease(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 7);
    struct store_lease lease = fixture_lease(7);
    struct store_peer peer;
    tunnel(fixture, id, "established", 20);
    assert_works(store_peer_get(fixture->store, lease.consumer_public_key, &peer, &err), err);
    assert_string_equal(peer.public_key, lease.consumer_public_key);
    assert_string_equal(peer.lease_id.text, id.text);
    assert_string_equal(peer.endpoint, lease.consumer_endpoint);
    assert_string_equal(peer.tunnel_ip, lease.consumer_tunnel_ip);
    assert_string_equal(peer.vm_public_key, lease.vm_public_key);
    assert_string_equal(peer.vm_tunnel_ip, lease.vm_tunnel_ip);
    assert_string_equal(peer.tunnel_state, "established");
    assert_int_equal(peer.established_ms, 20);
    assert_int_equal(peer.last_handshake_ms, 20);
    assert_int_equal(peer.lease_state, LEASE_PENDING);
    assert_int_equal(peer.created_ms, lease.created_ms);
}

static void the_newest_peer_of_a_key_is_the_one_that_is_found(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    struct store_resources capacity = fixture_capacity(10);
    struct store_peer peer;
    struct store_lease newer = fixture_lease(1); /* an earlier id: the order of making decides */
    struct id older = fixture_reserve(fixture, 2);
    set_text(newer.consumer_public_key, fixture_lease(2).consumer_public_key);
    assert_works(store_lease_terminate(fixture->store, older.text, &end, &err), err);
    assert_works(store_lease_reserve(fixture->store, &newer, &capacity, &err), err);
    assert_works(store_peer_get(fixture->store, newer.consumer_public_key, &peer, &err), err);
    assert_string_equal(peer.lease_id.text, newer.id.text);
    assert_int_equal(store_peer_get(fixture->store, "nobody", &peer, &err), -ENOENT);
    assert_string_equal(err.slug, "peer-not-found");
}

/* What a callback saw. */
struct seen {
    size_t count;
    size_t stop_after; /* 0: never */
    struct id ids[STORE_PAGE_MAX];
};

static int remember(void *context, const struct store_peer *peer)
{
    struct seen *seen = context;
    assert_true(seen->count < STORE_PAGE_MAX);
    seen->ids[seen->count++] = peer->lease_id;
    return seen->count == seen->stop_after ? 77 : 0;
}

static void pages_of_peers_join_newest_last(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id made[12];
    for (unsigned n = 0; n < 12; n++)
        made[n] = fixture_reserve(fixture, 50 - n);
    struct seen seen = {0};
    struct store_filter filter = {.limit = 8};
    assert_works(store_peer_list(fixture->store, &filter, remember, &seen, &err), err);
    assert_int_equal(seen.count, 8);
    filter.after = made[7].text;
    assert_works(store_peer_list(fixture->store, &filter, remember, &seen, &err), err);
    assert_int_equal(seen.count, 12);
    for (unsigned n = 0; n < 12; n++)
        assert_string_equal(seen.ids[n].text, made[n].text);

    seen = (struct seen){.stop_after = 1};
    filter = (struct store_filter){.limit = 8, .lease_id = made[5].text};
    assert_int_equal(store_peer_list(fixture->store, &filter, remember, &seen, &err), 77);
    assert_string_equal(seen.ids[0].text, made[5].text);
    filter = (struct store_filter){.limit = 8, .after = "gone"};
    assert_int_equal(store_peer_list(fixture->store, &filter, remember, &seen, &err), -EINVAL);
    filter = (struct store_filter){.limit = 0};
    assert_int_equal(store_peer_list(fixture->store, &filter, remember, &seen, &err), -EINVAL);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_tunnel_is_told_when_it_comes_up_and_when_it_is_lost),
        WITH_STORE(a_silent_tunnel_is_lost_and_may_come_up_again),
        WITH_STORE(a_change_of_the_tunnel_raises_the_generation_and_a_repetition_does_not),
        WITH_STORE(an_unknown_tunnel_state_is_refused_and_undone),
        WITH_STORE(a_peer_reads_back_with_its_lease),
        WITH_STORE(the_newest_peer_of_a_key_is_the_one_that_is_found),
        WITH_STORE(pages_of_peers_join_newest_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
