#include "api/http/admission.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmocka.h"

static void ignore(void *context, const struct request *request, struct response *response)
{
    (void)context;
    (void)request;
    (void)response;
}

static const struct route routes[] = {
    {REQUEST_GET, "/open", ROUTE_OPEN, false, NULL, "text/plain", ignore},
    {REQUEST_GET, "/closed", ROUTE_READ, false, "limit", "application/json", ignore},
    {REQUEST_GET, "/both", ROUTE_OPEN, false, NULL, "application/json text/event-stream", ignore},
    {REQUEST_POST, "/closed", ROUTE_LEASE, true, NULL, "application/json", ignore},
    {.pattern = NULL},
};

#define GOOD_HOST                                                                                                      \
    {                                                                                                                  \
        "Host", "127.0.0.1:8470"                                                                                       \
    }
#define GOOD_TOKEN                                                                                                     \
    {                                                                                                                  \
        "Authorization", "Bearer omt_good"                                                                             \
    }
#define JSON_BODY                                                                                                      \
    {"Content-Type", "application/json"},                                                                              \
    {                                                                                                                  \
        "Content-Length", "2"                                                                                          \
    }

enum {
    HEADERS = 5,
};

struct attempt {
    const char *what;
    enum request_method method;
    const char *target;
    const char *headers[HEADERS][2];
    unsigned status; /* 0: admitted */
    bool closes;
};

/* omt_good may do all, omt_read may look, and omt_old was revoked. */
static void make_tokens(struct tokens *tokens)
{
    struct token_list list = {.count = 3,
                              .entries = {{.name = "good", .scope = TOKEN_ADMIN},
                                          {.name = "read", .scope = TOKEN_READ},
                                          {.name = "old", .scope = TOKEN_ADMIN, .revoked_ms = 1}}};
    token_from_text("omt_good", 8, &list.entries[0].token);
    token_from_text("omt_read", 8, &list.entries[1].token);
    token_from_text("omt_old", 7, &list.entries[2].token);
    tokens_init(tokens, &list);
}

static struct admission make_admission(bool is_unix, struct tokens *tokens, struct token_limiter *limiter)
{
    struct admission admission = {
        .routes = routes, .check_peer = is_unix, .tokens = tokens, .limiter = limiter, .name_count = is_unix ? 0 : 2};
    strcpy(admission.names[0], "127.0.0.1:8470");
    strcpy(admission.names[1], "localhost:8470");
    return admission;
}

static void expect(const struct admission *admission, const struct attempt *attempt, uint32_t uid)
{
    struct request *request = calloc(1, sizeof *request);
    struct response response = {0};
    struct header_fields fields = {0};
    request->method = attempt->method;
    for (size_t i = 0; i < HEADERS && attempt->headers[i][0] != NULL; i++)
        header_fields_add(&fields, attempt->headers[i][0], attempt->headers[i][1]);
    struct admitted admitted = admission_decide(admission, attempt->target, &fields, uid, request, &response);
    if (response.status != attempt->status || admitted.must_close != attempt->closes ||
        (admitted.route != NULL) != (attempt->status == 0))
        fail_msg("%s: %u", attempt->what, response.status);
    response_done(&response);
    free(request);
}

static void tcp_admits_what_is_right_and_refuses_the_rest(void **state)
{
    (void)state;
    static const struct attempt table[] = {
        {"open", REQUEST_GET, "/open", {GOOD_HOST}, 0, false},
        {"head", REQUEST_HEAD, "/open", {GOOD_HOST}, 0, false},
        {"localhost", REQUEST_GET, "/open", {{"host", "LOCALHOST:8470"}}, 0, false},
        {"token", REQUEST_GET, "/closed", {GOOD_HOST, GOOD_TOKEN}, 0, false},
        {"scheme's case", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "bearer omt_good"}}, 0, false},
        {"own origin", REQUEST_GET, "/open", {GOOD_HOST, {"Origin", "http://localhost:8470"}}, 0, false},
        {"body", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, JSON_BODY}, 0, false},
        {"query", REQUEST_GET, "/closed?limit=1", {GOOD_HOST, GOOD_TOKEN}, 0, false},
        {"largest body",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Content-Type", "application/json"}, {"Content-Length", "262144"}},
         0,
         false},
        {"no host", REQUEST_GET, "/open", {{NULL, NULL}}, 400, true},
        {"two hosts", REQUEST_GET, "/open", {GOOD_HOST, GOOD_HOST}, 400, true},
        {"odd host", REQUEST_GET, "/open", {{"Host", "a b"}}, 400, true},
        {"no host at all", REQUEST_GET, "/open", {{"Host", ""}}, 400, true},
        {"odd port", REQUEST_GET, "/open", {{"Host", "127.0.0.1:84x"}}, 400, true},
        {"two ports", REQUEST_GET, "/open", {{"Host", "127.0.0.1:8470:1"}}, 400, true},
        {"open bracket", REQUEST_GET, "/open", {{"Host", "[::1"}}, 400, true},
        {"half a bracket", REQUEST_GET, "/open", {{"Host", "["}}, 400, true},
        {"user in host", REQUEST_GET, "/open", {{"Host", "x@127.0.0.1:8470"}}, 400, true},
        {"address of another family", REQUEST_GET, "/open", {{"Host", "[::1]:8470"}}, 421, true},
        {"no type", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Type", "application"}}, 400, true},
        {"half a type", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Type", "application/"}}, 400, true},
        {"two types",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Content-Type", "application/json, text/plain"}},
         400,
         true},
        {"two words of token", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer a b"}}, 400, true},
        {"odd token", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer \"a\""}}, 400, true},
        {"odd scheme", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "=Bearer a"}}, 400, true},
        {"another scheme", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Basic a=="}}, 401, false},
        {"scheme alone", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer"}}, 401, false},
        {"two tokens", REQUEST_GET, "/closed", {GOOD_HOST, GOOD_TOKEN, GOOD_TOKEN}, 400, true},
        {"two lengths",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "2"}, {"content-length", "2"}},
         400,
         true},
        {"odd expectation", REQUEST_GET, "/open", {GOOD_HOST, {"Expect", "wonders"}}, 417, true},
        {"no expectation", REQUEST_GET, "/open", {GOOD_HOST, {"Expect", ""}}, 417, true},
        {"known expectation", REQUEST_GET, "/open", {GOOD_HOST, {"Expect", "100-Continue"}}, 0, false},
        {"two expectations",
         REQUEST_GET,
         "/open",
         {GOOD_HOST, {"Expect", "100-continue"}, {"Expect", "100-continue"}},
         400,
         true},
        {"odd length", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "+2"}}, 400, true},
        {"empty length", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Length", ""}}, 400, true},
        {"both framings",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "2"}, {"Transfer-Encoding", "chunked"}},
         400,
         true},
        {"odd coding",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Transfer-Encoding", "gzip, chunked"}},
         400,
         true},
        {"space in a name", REQUEST_GET, "/open", {GOOD_HOST, {"Content-Length ", "2"}}, 400, true},
        {"control byte", REQUEST_GET, "/open", {GOOD_HOST, {"X", "a\rb"}}, 400, true},
        {"bad escape", REQUEST_GET, "/%zz", {GOOD_HOST}, 400, true},
        {"rebinding", REQUEST_GET, "/open", {{"Host", "evil.example:8470"}}, 421, true},
        {"other port", REQUEST_GET, "/open", {{"Host", "127.0.0.1:80"}}, 421, true},
        {"no port", REQUEST_GET, "/open", {{"Host", "127.0.0.1"}}, 421, true},
        {"other site", REQUEST_GET, "/open", {GOOD_HOST, {"Origin", "http://evil.example"}}, 403, true},
        {"null origin", REQUEST_GET, "/open", {GOOD_HOST, {"Origin", "null"}}, 403, true},
        {"https origin", REQUEST_GET, "/open", {GOOD_HOST, {"Origin", "https://localhost:8470"}}, 403, true},
        {"unknown path", REQUEST_GET, "/nope", {GOOD_HOST}, 404, false},
        {"options", REQUEST_OPTIONS, "/closed", {GOOD_HOST}, 204, false},
        {"method", REQUEST_PUT, "/closed", {GOOD_HOST}, 405, false},
        {"strange method", REQUEST_OTHER, "/closed", {GOOD_HOST}, 405, false},
        {"no token", REQUEST_GET, "/closed", {GOOD_HOST}, 401, false},
        {"token for reading", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer omt_read"}}, 0, false},
        {"less than it takes",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, {"Authorization", "Bearer omt_read"}, JSON_BODY},
         403,
         false},
        {"revoked token", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer omt_old"}}, 401, false},
        {"wrong token", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer omt_bad"}}, 401, false},
        {"basic", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Basic omt_good"}}, 401, false},
        {"unknown query", REQUEST_GET, "/closed?dry_run=true", {GOOD_HOST, GOOD_TOKEN}, 400, false},
        {"unwanted body", REQUEST_GET, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "1"}}, 400, false},
        {"no type", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "2"}}, 415, false},
        {"form",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Content-Type", "application/x-www-form-urlencoded"}},
         415,
         false},
        {"too large", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "262145"}}, 413, false},
        {"far too large",
         REQUEST_POST,
         "/closed",
         {GOOD_HOST, GOOD_TOKEN, {"Content-Length", "99999999999999999999999"}},
         413,
         false},
        {"key", REQUEST_POST, "/closed", {GOOD_HOST, GOOD_TOKEN, JSON_BODY, {"Idempotency-Key", "k"}}, 400, false},
        {"accept", REQUEST_GET, "/closed", {GOOD_HOST, GOOD_TOKEN, {"Accept", "text/html"}}, 406, false},
    };
    struct tokens tokens;
    struct token_limiter limiter;
    make_tokens(&tokens);
    token_limiter_init(&limiter);
    const struct admission admission = make_admission(false, &tokens, &limiter);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        expect(&admission, &table[i], 0);
    token_limiter_done(&limiter);
}

static void a_target_that_is_too_long_is_414(void **state)
{
    (void)state;
    struct token_limiter limiter;
    token_limiter_init(&limiter);
    const struct admission admission = make_admission(false, NULL, &limiter);
    char target[REQUEST_TARGET_BYTES + 1];
    memset(target, '/', sizeof target - 1);
    target[sizeof target - 1] = '\0';
    const struct attempt attempt = {"long", REQUEST_GET, target, {GOOD_HOST}, 414, true};
    expect(&admission, &attempt, 0);
    token_limiter_done(&limiter);
}

static void the_unix_socket_takes_our_user_and_root_alone(void **state)
{
    (void)state;
    struct token_limiter limiter;
    token_limiter_init(&limiter);
    const struct admission admission = make_admission(true, NULL, &limiter);
    const struct attempt good = {"peer", REQUEST_GET, "/closed", {{"Host", "anything"}}, 0, false};
    const struct attempt stranger = {"stranger", REQUEST_GET, "/open", {{"Host", "anything"}}, 403, true};
    const struct attempt page = {"page", REQUEST_GET, "/open", {{"Origin", "http://localhost"}}, 403, true};
    expect(&admission, &good, (uint32_t)geteuid());
    expect(&admission, &good, 0);
    expect(&admission, &stranger, (uint32_t)geteuid() + 1);
    expect(&admission, &stranger, UINT32_MAX);
    expect(&admission, &page, 0);
    token_limiter_done(&limiter);
}

static void a_right_token_works_after_many_wrong_ones(void **state)
{
    (void)state;
    struct tokens tokens;
    struct token_limiter limiter;
    make_tokens(&tokens);
    token_limiter_init(&limiter);
    const struct admission admission = make_admission(false, &tokens, &limiter);
    struct attempt wrong = {"wrong", REQUEST_GET, "/closed", {GOOD_HOST, {"Authorization", "Bearer x"}}, 401, false};
    const struct attempt right = {"right", REQUEST_GET, "/closed", {GOOD_HOST, GOOD_TOKEN}, 0, false};
    for (int i = 0; i < TOKEN_FAILURES_MAX; i++)
        expect(&admission, &wrong, 0);
    wrong.status = 429;
    expect(&admission, &wrong, 0);
    expect(&admission, &right, 0);
    token_limiter_done(&limiter);
}

static void only_json_in_utf8_is_json(void **state)
{
    (void)state;
    assert_true(media_type_is_json("application/json"));
    assert_true(media_type_is_json("Application/JSON; charset=UTF-8"));
    assert_true(media_type_is_json("application/json;charset=\"utf-8\""));
    const char *const wrong[] = {NULL,
                                 "",
                                 "text/json",
                                 "application/jsonx",
                                 "application/json; charset=latin1",
                                 "application/json; a=b",
                                 "application/json, text/plain",
                                 "application/problem+json"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(media_type_is_json(wrong[i]));
}

static void accept_headers_are_read_as_lists_of_ranges(void **state)
{
    (void)state;
    const struct {
        const char *accept;
        bool allows;
    } table[] = {
        {NULL, true},
        {"", true},
        {"*/*", true},
        {"application/json", true},
        {"Application/*;q=0.5", true},
        {"text/html, application/json;q=0.1", true},
        {"text/html,*/*;q=0.8", true},
        {"text/html", false},
        {"application/json;q=0", false},
        {"application/json;q=0.000", false},
        {"application/jso", false},
        {"application/jsonx", false},
        {"text/*", false},
        {",,", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(accept_allows(table[i].accept, "application/json"), table[i].allows);
}

static void a_stream_is_for_those_who_name_it(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        const char *accept;
        unsigned status;
        bool wants_stream;
    } table[] = {
        {"/both", NULL, 0, false},
        {"/both", "*/*", 0, false},
        {"/both", "text/event-stream", 0, true},
        {"/both", "text/html, text/event-stream;q=0.5", 0, true},
        {"/both", "text/event-stream, */*", 0, true},
        {"/both", "application/json, text/event-stream", 0, false},
        {"/both", "text/event-stream, application/json;q=0", 0, true},
        {"/both", "text/event-stream;q=0", 406, false},
        {"/both", "text/*", 406, false},
        {"/open", "text/event-stream", 406, false},
    };
    struct token_limiter limiter;
    token_limiter_init(&limiter);
    struct admission admission = make_admission(false, NULL, &limiter);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct request *request = calloc(1, sizeof *request);
        struct response response = {0};
        struct header_fields fields = {.host = "localhost:8470", .accept = table[i].accept};
        admission_decide(&admission, table[i].target, &fields, 0, request, &response);
        if (response.status != table[i].status || request->wants_stream != table[i].wants_stream)
            fail_msg("%s %s: %u", table[i].target, table[i].accept, response.status);
        response_done(&response);
        free(request);
    }
    token_limiter_done(&limiter);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_for_those_who_name_it),
        cmocka_unit_test(tcp_admits_what_is_right_and_refuses_the_rest),
        cmocka_unit_test(a_target_that_is_too_long_is_414),
        cmocka_unit_test(the_unix_socket_takes_our_user_and_root_alone),
        cmocka_unit_test(a_right_token_works_after_many_wrong_ones),
        cmocka_unit_test(only_json_in_utf8_is_json),
        cmocka_unit_test(accept_headers_are_read_as_lists_of_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
