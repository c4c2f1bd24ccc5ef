/* What Frama-C 25 does not know of C11. Included before the sources by run.py and by nothing else. */
#ifndef TESTS_PROOF_PRELUDE_H
#define TESTS_PROOF_PRELUDE_H

/* Every build's compiler checks the assertions; the prover needs none of them. */
#define _Static_assert(condition, text)

#endif
