#include "api/http/problem.h"

#include <string.h>

static const struct problem_type types[PROBLEM_COUNT] = {
    [PROBLEM_BAD_REQUEST] = {"bad-request", 400, "The request is malformed", false,
                             "The request line or a header breaks HTTP's rules or is repeated where it must stand "
                             "once (Host, Content-Length, Transfer-Encoding, Authorization, Content-Type, Origin), "
                             "or the body ended before it was whole. The connection is closed."},
    [PROBLEM_MALFORMED_JSON] = {"malformed-json", 400, "The body is not JSON", false,
                                "The body could not be read as one JSON document. The detail says line and column."},
    [PROBLEM_UNEXPECTED_BODY] = {"unexpected-body", 400, "This operation takes no body", false,
                                 "Send the request without a body."},
    [PROBLEM_QUERY_INVALID] = {"query-invalid", 400, "A query parameter is unknown or has a bad value", false,
                               "Each operation takes only the query parameters that openapi.yaml lists for it. An "
                               "unknown one is refused, because ignoring it would promise what is not done."},
    [PROBLEM_IDEMPOTENCY_NOT_SUPPORTED] = {"idempotency-not-supported", 400, "This operation takes no Idempotency-Key",
                                           false,
                                           "Only POST /v1/leases keeps keys. The other operations may be sent twice "
                                           "with the effect of once; the header is refused rather than ignored."},
    [PROBLEM_IDEMPOTENCY_KEY_INVALID] = {"idempotency-key-invalid", 400, "The Idempotency-Key is not valid", false,
                                         "A key is 1 to 255 visible ASCII characters. A fresh UUID is a good one."},
    [PROBLEM_IDEMPOTENCY_KEY_REUSED] =
        {"idempotency-key-reused", 422, "The key was used with another request", false,
         "Within 24 hours this Idempotency-Key came with a body that asked for something "
         "else. Nothing was done. Use a fresh key for a new request."},
    [PROBLEM_REQUEST_IN_FLIGHT] =
        {"request-in-flight", 409, "The same request is being answered", true,
         "A request with this Idempotency-Key is being answered at this moment. Send it again "
         "in a moment: it will be given the same answer."},
    [PROBLEM_TOO_MANY_KEYS] = {"too-many-keys", 503, "Too many idempotency keys", true,
                               "Keys are kept for 24 hours, 20,000 at most. None is forgotten before its time, so no "
                               "further one is taken. Without the header the request works."},
    [PROBLEM_UNAUTHORIZED] =
        {"unauthorized", 401, "A token is needed", false,
         "Over TCP each operation needs `Authorization: Bearer TOKEN`. The first token stands in "
         "the file `token` of the daemon's data folder; `omertad token add` makes others. The unix "
         "socket needs none."},
    [PROBLEM_INSUFFICIENT_SCOPE] = {"insufficient-scope", 403, "The token does not allow this", false,
                                    "A token has one of the scopes read (look at everything), lease (and make, change "
                                    "and end leases) and admin (and change the node). `omertad token add` makes one of "
                                    "another scope."},
    [PROBLEM_ORIGIN_FORBIDDEN] = {"origin-forbidden", 403, "Another site may not call this service", false,
                                  "The request carries an Origin that is not this service's own: a web page of "
                                  "somebody else made it."},
    [PROBLEM_PEER_FORBIDDEN] = {"peer-forbidden", 403, "Another user may not call this service", false,
                                "Only the user that the daemon runs as, and root, may use its unix socket."},
    [PROBLEM_NOT_FOUND] = {"not-found", 404, "There is nothing at this path", false,
                           "GET /openapi.yaml lists every path of this service."},
    [PROBLEM_LEASE_NOT_FOUND] = {"lease-not-found", 404, "There is no such lease", false,
                                 "GET /v1/leases lists them. Leases that have ended are kept."},
    [PROBLEM_VIOLATION_NOT_FOUND] = {"violation-not-found", 404, "There is no such violation", false,
                                     "GET /v1/violations lists them."},
    [PROBLEM_PEER_NOT_FOUND] = {"peer-not-found", 404, "There is no peer with this public key", false,
                                "GET /v1/peers lists them. In a path the key is written in base64url, or in base64 "
                                "with `/`, `+` and `=` percent-encoded."},
    [PROBLEM_IMAGE_NOT_FOUND] = {"image-not-found", 404, "There is no such guest image", false,
                                 "GET /v1/images lists them. `make image` or deploy/guest/build-micro.sh builds one; "
                                 "an image is a folder with a manifest.json in the daemon's image folder. A lease "
                                 "that names a missing image is refused with status 422."},
    [PROBLEM_RANGE_NOT_SATISFIABLE] = {"range-not-satisfiable", 416, "Nothing of that range is there", true,
                                       "The newest 64 KiB of a console are kept. The detail says which bytes there "
                                       "are; later ones may come."},
    [PROBLEM_EVIDENCE_ABSENT] = {"evidence-absent", 404, "This violation has no evidence", false,
                                 "The provider saw no frame: a guest's own firewall reported it."},
    [PROBLEM_EVIDENCE_PURGED] = {"evidence-purged", 410, "The evidence is gone", false,
                                 "Evidence is kept for 30 days and of the newest 10,000 violations. The violation "
                                 "itself stays as long as its lease's record."},
    [PROBLEM_CURSOR_UNKNOWN] = {"cursor-unknown", 410, "The row that the cursor names is gone", false,
                                "Old rows are removed in time, and a list cannot go on after one that is gone. Begin "
                                "the list anew, without `after`."},
    [PROBLEM_EVENTS_AHEAD] = {"events-ahead", 400, "The cursor is past the end of the events", false,
                              "No event with this id has happened, so nothing could be told after it. The detail says "
                              "which one is the newest; `after=latest` means the present end."},
    [PROBLEM_EVENTS_PRUNED] = {"events-pruned", 410, "Events after the cursor are gone", false,
                               "The newest 100,000 events are kept, and what should come next is not among them. The "
                               "detail says which one is the oldest. Read the state anew, then begin without `after` "
                               "(from the oldest event) or with `after=latest`."},
    [PROBLEM_EVENTS_EPOCH_CHANGED] = {"events-epoch-changed", 410, "The cursor is of another log of events", false,
                                      "The first part of an event's id names the log. This daemon's database was made "
                                      "anew since, and numbers mean other events now. Read the state anew, then begin "
                                      "without `after`."},
    [PROBLEM_TOO_MANY_STREAMS] = {"too-many-streams", 503, "Too many clients follow at present", true,
                                  "256 streams may be open at once. Close one, or ask for pages instead."},
    [PROBLEM_METHOD_NOT_ALLOWED] = {"method-not-allowed", 405, "This path does not take this method", false,
                                    "The Allow header lists the methods that it takes."},
    [PROBLEM_NOT_ACCEPTABLE] = {"not-acceptable", 406, "The answer has no form that the client accepts", false,
                                "The Accept header leaves out the media type that this operation answers with."},
    [PROBLEM_MACHINE_ABSENT] = {"machine-absent", 409, "The lease has no machine now", false,
                                "Counters exist while the lease's machine does. It has not been made yet, or it has "
                                "ended."},
    [PROBLEM_COUNTERS_ABSENT] = {"counters-absent", 409, "There are no counters in direct mode", false,
                                 "Nothing of the provider's is in the data path of a direct lease, so nothing counts."},
    [PROBLEM_POLICY_ABSENT] = {"policy-absent", 409, "There is no policy in direct mode", false,
                               "Nothing of the provider's is in the data path of a direct lease, so nothing is "
                               "enforced there that could be shown, changed or asked."},
    [PROBLEM_LEASE_NOT_RUNNING] = {"lease-not-running", 409, "The lease does not run yet", true,
                                   "A policy is replaced while the lease runs. Until then it starts with what it was "
                                   "asked for; wait for the state `running`."},
    [PROBLEM_PEER_IN_USE] = {"peer-in-use", 409, "Another lease already has this consumer", true,
                             "A lease that has not ended has the same consumer public key and endpoint. End it, or "
                             "use another key."},
    [PROBLEM_LEASE_ENDED] = {"lease-ended", 409, "The lease has ended", false,
                             "A lease that has ended, or is ending, is not changed any more. Ask for another one."},
    [PROBLEM_HEARTBEAT_NOT_WATCHED] = {"heartbeat-not-watched", 409, "Nobody watches this lease's heartbeats", false,
                                       "The lease was asked for without `heartbeat_timeout_s`, so a heartbeat would "
                                       "promise what is not done."},
    [PROBLEM_DIRECT_UNAVAILABLE] = {"direct-unavailable", 409, "This machine cannot do direct mode", false,
                                    "Direct mode needs pasta, nft, ip, user namespaces and /dev/net/tun. The detail "
                                    "says what is missing and what mends it, or why vfkit has none; `omertad doctor` "
                                    "says it too. No weaker network ever stands in for it."},
    [PROBLEM_IMAGE_MANIFEST_INVALID] = {"image-manifest-invalid", 409, "The image's manifest is not valid", false,
                                        "The manifest.json of the image breaks its format. Build the image again. A "
                                        "lease that names such an image is refused with status 422."},
    [PROBLEM_IMAGE_FILE_MISSING] = {"image-file-missing", 409, "A file of the image is missing", false,
                                    "The manifest names a file that is not there or cannot be read. Build the image "
                                    "again."},
    [PROBLEM_IMAGE_DIGEST_MISMATCH] = {"image-digest-mismatch", 409, "A file of the image was changed", false,
                                       "Size or SHA-256 of a file differ from the manifest's. No machine starts from "
                                       "such an image. Build it again, and find out who changed it."},
    [PROBLEM_PRECONDITION_FAILED] = {"precondition-failed", 412, "The resource has changed", false,
                                     "If-Match names another generation than the present one. Read the resource again "
                                     "and decide anew."},
    [PROBLEM_PRECONDITION_REQUIRED] = {"precondition-required", 428, "If-Match is needed", false,
                                       "A change says with If-Match which generation it was decided on, so that two "
                                       "clients do not overwrite each other. Take it from the ETag of a GET."},
    [PROBLEM_BODY_TOO_LARGE] = {"body-too-large", 413, "The body is too large", false, "A body may have 256 KiB."},
    [PROBLEM_EXPECTATION_FAILED] = {"expectation-failed", 417, "The request expects what this service does not know",
                                    false, "The only expectation is 100-continue (RFC 9110 section 10.1.1)."},
    [PROBLEM_TARGET_TOO_LONG] = {"target-too-long", 414, "The request target is too long", false,
                                 "Path and query may have 2047 bytes together."},
    [PROBLEM_UNSUPPORTED_MEDIA_TYPE] = {"unsupported-media-type", 415, "The body must be application/json", false,
                                        "Send `Content-Type: application/json`; a charset, if any, is utf-8."},
    [PROBLEM_MISDIRECTED_REQUEST] = {"misdirected-request", 421, "This service has another name", false,
                                     "The Host header is not an address of this service with its port. A name that "
                                     "merely resolves to this machine is not accepted (DNS rebinding)."},
    [PROBLEM_VALIDATION_FAILED] = {"validation-failed", 422, "The document is not valid", false,
                                   "`errors` lists every fault that was found, each with a JSON pointer."},
    [PROBLEM_ENDPOINT_FORBIDDEN] = {"endpoint-forbidden", 422, "This consumer endpoint is not allowed", false,
                                    "A consumer endpoint may not be a loopback, link-local, metadata, multicast, "
                                    "reserved or broadcast address or one of the provider's own. Private ranges need "
                                    "`network.allowPrivateEndpoints` in the provider's configuration."},
    [PROBLEM_MODE_NOT_ALLOWED] = {"mode-not-allowed", 422, "This network mode is not offered", false,
                                  "This provider offers the mode `network.mode` of its configuration alone, unless "
                                  "`network.allowModeOverride` is true there. No mode ever stands in for another."},
    [PROBLEM_PACKAGES_UNUSABLE] = {"packages-unusable", 422, "The offline packages cannot be used", false,
                                   "`offline_packages` takes every .deb file of the folder `paths.packages` in the "
                                   "provider's configuration. There must be at least one, and each must be a Debian "
                                   "package."},
    [PROBLEM_ONLINE_INSTALL_NOT_ALLOWED] = {"online-install-not-allowed", 422, "Online installation is not offered",
                                            false,
                                            "`online_install` opens the guest's network until its firewall stands. It "
                                            "needs the mode `direct` and `network.allowOnlineInstall` in the "
                                            "provider's configuration."},
    [PROBLEM_TOO_MANY_FAILURES] = {"too-many-failures", 429, "Too many wrong tokens", true,
                                   "Wrong tokens are answered only so often a minute. A right token always works."},
    [PROBLEM_HEADERS_TOO_LARGE] = {"headers-too-large", 431, "The request's headers are too large", false,
                                   "Request line and headers may have 16 KiB together."},
    [PROBLEM_INTERNAL_ERROR] = {"internal-error", 500, "The daemon failed", false,
                                "The cause is in the daemon's log. This is a fault of the daemon; please report it."},
    [PROBLEM_NOT_READY] = {"not-ready", 503, "The daemon is not ready", true,
                           "`errors` says for each part why: the accelerator probe still runs, the store cannot be "
                           "written, or there is no guest image."},
    [PROBLEM_SHUTTING_DOWN] = {"shutting-down", 503, "The daemon is ending", true,
                               "It ends its machines and takes no further lease."},
    [PROBLEM_DRAINING] =
        {"draining", 503, "The machine is being drained", true,
         "Its operator takes it out of service: leases that are there go on, and no new one is admitted. "
         "GET /v1/node/drain shows it, PUT /v1/node/drain ends it."},
    [PROBLEM_STORE_UNAVAILABLE] = {"store-unavailable", 503, "The store cannot be used", true,
                                   "The database could not be read or written: a full or read-only disk, or an I/O "
                                   "error. Machines that run stay filtered. The detail says what the system said."},
    [PROBLEM_VERIFICATION_BUSY] = {"verification-busy", 503, "Another image is being verified", true,
                                   "One verification runs at a time, because it reads whole files."},
    [PROBLEM_POLICY_BUSY] = {"policy-busy", 503, "Another policy is being applied", true,
                             "Policies are applied one at a time. Nothing has changed."},
    [PROBLEM_POLICY_NOT_ENFORCED] = {"policy-not-enforced", 503, "The filter did not take the policy", true,
                                     "The policy before is in force still; the detail says which, and why. It was "
                                     "taken back, so it will not be enforced later either."},
    [PROBLEM_INSUFFICIENT_CAPACITY] = {"insufficient-capacity", 507, "There is no room for this lease", true,
                                       "Leases that have not ended hold the rest of the machine. GET /v1/node shows "
                                       "what is used of what."},
};

const struct problem_type *problem_type(enum problem problem)
{
    return &types[problem];
}

bool problem_find(const char *slug, enum problem *ret_problem)
{
    for (size_t i = 0; i < PROBLEM_COUNT; i++) {
        if (strcmp(types[i].slug, slug) == 0) {
            *ret_problem = (enum problem)i;
            return true;
        }
    }
    return false;
}
