/* The head of a request, as far as it has to be understood before it is anybody's turn: where it ends, and whose token it
 * shows. Decides about classes of connections alone; the HTTP library parses it again, and admission judges it. */
#ifndef API_HTTP_HEAD_H
#define API_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

/**
 * head_length() - Where the head of a request ends
 * @bytes: what has arrived, from the connection's first byte
 * Return: its length with the empty line, 0 while that is missing
 * Thread: any
 * Source: RFC 9112 sections 2.1 and 2.2 (empty lines before the request line, bare line feeds)
 */
size_t head_length(const char *bytes, size_t length);

/**
 * head_is_folded() - Whether a header goes on in a line that begins with white space
 * @bytes: a whole head
 * Thread: any
 * Source: RFC 9112 section 5.2 (obs-fold, which a server may refuse)
 */
bool head_is_folded(const char *bytes, size_t length);

/**
 * head_holds_nul() - Whether a NUL stands in a head, where the HTTP library would see the end of a line or of a word
 * @bytes: a whole head
 * Thread: any
 * Source: RFC 9110 section 5.5 (which has it refused in a header)
 */
bool head_holds_nul(const char *bytes, size_t length);

/**
 * head_bearer() - The token of the first Authorization line
 * @bytes:     a whole head
 * @ret_token: points into @bytes
 * Return:     length of the token, 0 when there is none
 * Thread:     any
 */
size_t head_bearer(const char *bytes, size_t length, const char **ret_token);

#endif
