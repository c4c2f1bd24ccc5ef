# omertad: one Makefile, no recursion. `make help` lists the targets.
#
#   V=1          show commands            SANITIZE=address,undefined   build with sanitizers (own folder)
#   PORTABLE=1   plain POSIX calls only   WERROR=1                     warnings are errors (CI)

CC ?= cc
# Debian's own where there is one: modules of the tests are Debian packages.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
PREFIX ?= /usr/local
VERSION := $(shell cat VERSION)

comma := ,
variant := $(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(PORTABLE),-portable)$(if $(COVERAGE),-coverage)
BUILD := build/host$(variant)
Q := $(if $(V),,@)

# Elsewhere there is nothing but the portable twins, among them kqueue(2)'s; tests on Linux have a stand-in for that.
LINUX := $(findstring Linux,$(shell uname -s))
ifeq ($(LINUX),)
PORTABLE := 1
endif
KQUEUE_STAND_IN := $(if $(LINUX),-Itests/vmm/kqueue)

# Threads confine themselves on Linux; not where a sanitizer's runtime has to make calls of its own.
CONFINED := $(if $(PORTABLE)$(SANITIZE),,$(LINUX))
PACKAGES := libmicrohttpd jansson sqlite3 libsodium libisofs-1 $(if $(CONFINED),libseccomp)
# Looked up only when something is compiled, so that `make deps` works on a machine without them.
PKG_CFLAGS = $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS = $(shell pkg-config --libs $(PACKAGES))

WARNINGS := -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
            -Wformat=2 -Wswitch-enum $(if $(WERROR),-Werror)
HARDENING := -fstack-protector-strong -fPIE $(if $(SANITIZE)$(COVERAGE),,-D_FORTIFY_SOURCE=2) \
             $(if $(findstring x86_64,$(shell uname -m)),-fstack-clash-protection -fcf-protection)
OPTIMIZE := $(if $(COVERAGE),-O0,-O2) -g
COVERED := -fprofile-instr-generate -fcoverage-mapping
# Counts lie in a file that is mapped, so that a process that is killed, or becomes another program, has told what it did.
# Where the daemon's processes have it is built in, for most are started without an environment; a test tells by LLVM_PROFILE_FILE.
PROFILES := /tmp/omertad-cover-$(shell id -u)
COUNTED_IN_FILE := -Xclang -mllvm -Xclang -runtime-counter-relocation
CPPFLAGS += -I. -I$(BUILD)/embed -D_GNU_SOURCE -DOMERTAD_VERSION='"$(VERSION)"' $(if $(PORTABLE),-DOMERTAD_PORTABLE=1 $(KQUEUE_STAND_IN)) \
            $(if $(COVERAGE),-DOMERTAD_COVERAGE=1) \
            $(if $(CONFINED),-DOMERTAD_CONFINED=1)
CFLAGS += $(WARNINGS) $(OPTIMIZE) $(HARDENING) -ffile-prefix-map=$(CURDIR)=. -pthread \
          $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all) \
          $(if $(COVERAGE),$(COVERED) $(COUNTED_IN_FILE))
LDFLAGS += -pie -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(if $(COVERAGE),$(COVERED)) \
           $(if $(LINUX),-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now)

# A frame passes a dozen small functions of as many files in nat/: where the compiler is GCC they are compiled as one for what
# is linked with LINK_AS_ONE, and file by file as well for the tests, which so link fast. A tenth of the NAT's own time.
INLINE := -finline-limit=1000
AS_ONE := $(if $(SANITIZE)$(COVERAGE),,$(if $(findstring Free Software Foundation,$(shell $(CC) --version 2>/dev/null)),1))
LINK_AS_ONE := $(if $(AS_ONE),-flto=auto $(OPTIMIZE) $(INLINE))
LINK_APART := $(if $(AS_ONE),-fno-lto)
$(BUILD)/nat/%.o: CFLAGS += $(if $(AS_ONE),-flto -ffat-lto-objects $(INLINE))

$(BUILD)/api/main.o: CFLAGS += $(if $(COVERAGE),-fprofile-instr-generate=$(PROFILES)/%p-%m%c.profraw)

SOURCES := $(wildcard base/*.c nat/*.c store/*.c vmm/*.c api/*/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
HEADERS := $(wildcard base/*.h nat/*.h store/*.h vmm/*.h api/*/*.h)

# Files that the binary carries, each as a C array made from its bytes.
EMBEDDED := $(sort $(wildcard store/migrations/*.sql)) $(wildcard web/*.html web/*.js web/*.css) openapi.yaml
EMBED_OBJECTS := $(BUILD)/embed/embed.o

TEST_SOURCES := $(wildcard tests/base/test_*.c tests/nat/test_*.c tests/store/test_*.c tests/vmm/test_*.c tests/api/*/test_*.c)
TEST_SUPPORT := $(filter-out $(TEST_SOURCES) tests/fuzz/%,$(wildcard tests/*/*.c tests/api/*/*.c))
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_REPLAYS := $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz/test_%)
TEST_BINARIES := $(TEST_SOURCES:%.c=$(BUILD)/%) $(FUZZ_REPLAYS)
TEST_SUPPORT_OBJECTS := $(TEST_SUPPORT:%.c=$(BUILD)/%.o)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/omertad ## build the daemon

$(BUILD)/omertad: $(BUILD)/api/main.o $(BUILD)/libomertad.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(LINK_AS_ONE) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/libomertad.a: $(OBJECTS) $(EMBED_OBJECTS)
	@echo "  AR    $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c VERSION | $(BUILD)/embed/embed.h
	@echo "  CC    $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Changes with the list of names, for a file that was renamed or removed is not newer than anything.
$(BUILD)/embed/names: FORCE
	@mkdir -p $(@D)
	@echo '$(EMBEDDED)' | cmp -s - $@ || echo '$(EMBEDDED)' >$@

$(BUILD)/embed/embed.h $(BUILD)/embed/embed.c &: base/embed.sh $(EMBEDDED) $(BUILD)/embed/names
	@echo "  EMBED $@"
	@mkdir -p $(@D)
	$(Q)sh base/embed.sh $(@D) $(EMBEDDED)

$(BUILD)/embed/embed.o: $(BUILD)/embed/embed.c
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# ---- tests -----------------------------------------------------------------------------------------------------

$(BUILD)/tests/%: tests/%.c $(TEST_SUPPORT_OBJECTS) $(BUILD)/libomertad.a
	@echo "  TEST  $@"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -MF $@.d $(LINK_APART) $(LDFLAGS) -o $@ $< \
	    $(TEST_SUPPORT_OBJECTS) $(BUILD)/libomertad.a $(PKG_LIBS) -lcmocka

$(BUILD)/tests/vmm/test_exit_watch_kqueue: private CPPFLAGS += $(KQUEUE_STAND_IN)

# A hostile guest and its consumer, for the frame suite of tests/system.
$(BUILD)/frame_storm: tests/system/native/frame_storm.c
	@echo "  CC    $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

# Libraries that are loaded before the C library (LD_PRELOAD): threads of the daemon make calls that they must not make, or
# calls of theirs fail, or its wall clock is set.
PRELOADED := $(patsubst %,$(BUILD)/%.so,plant_call fail_call shift_clock)

$(PRELOADED): $(BUILD)/%.so: tests/system/native/%.c
	@echo "  CC    $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(WARNINGS) -O2 -fPIC -shared -o $@ $<

frame_storm: $(BUILD)/frame_storm $(PRELOADED)

# The data path between a synthetic guest and a consumer, with the baselines that it is compared with.
BENCH_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/bench/native/*.c) tests/nat/frames.c tests/nat/link.c)

$(BUILD)/path_bench: $(BENCH_OBJECTS) $(BUILD)/libomertad.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(LINK_AS_ONE) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

# Direct mode and pasta alone.
$(BUILD)/direct_bench: $(BUILD)/tests/bench/direct/main.o $(BUILD)/tests/nat/frames.o $(BUILD)/tests/nat/link.o $(BUILD)/libomertad.a
	@echo "  LINK  $@"
	$(Q)$(CC) $(LINK_AS_ONE) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

# Loads for the API, and what they are compared with.
API_BENCH_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/bench/api/*.c))

$(BUILD)/api_bench: $(API_BENCH_OBJECTS)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

# A fuzz target twice: with its corpus as an ordinary test, and with libFuzzer as its main().
$(FUZZ_REPLAYS): $(BUILD)/tests/fuzz/test_%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c tests/fuzz/fuzz.h $(BUILD)/libomertad.a
	@echo "  TEST  $@"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) $(BUILD)/libomertad.a $(PKG_LIBS) -lcmocka

$(BUILD)/fuzz/%: tests/fuzz/fuzz_%.c tests/fuzz/fuzz.h $(BUILD)/libomertad.a
	@echo "  FUZZ  $@"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(BUILD)/libomertad.a $(PKG_LIBS)

fuzz-binaries: $(FUZZ_TARGETS:%=$(BUILD)/fuzz/%)

unit-binaries: $(TEST_BINARIES)

# Tools that read openapi.yaml (npm), and a typed client made from it, which a system test runs.
CONTRACT := build/contract
CONTRACT_TOOLS := $(CONTRACT)/node_modules/.installed
CONTRACT_FILES := $(addprefix tests/contract/,client.ts lint.mjs tsconfig.json)

$(CONTRACT_TOOLS): tests/contract/package.json tests/contract/package-lock.json
	@echo "  NPM   $(CONTRACT)"
	@mkdir -p $(CONTRACT)
	$(Q)cp $^ $(CONTRACT)
	$(Q)cd $(CONTRACT) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

$(CONTRACT)/client.js: openapi.yaml $(CONTRACT_FILES) $(CONTRACT_TOOLS)
	@echo "  TSC   $@"
	$(Q)cp $(CONTRACT_FILES) $(CONTRACT)
	$(Q)cd $(CONTRACT) && node_modules/.bin/openapi-typescript ../../openapi.yaml -o api.d.ts >/dev/null
	$(Q)cd $(CONTRACT) && node_modules/.bin/tsc -p .

# Prometheus' checker, out of Debian's package: installing that would start a server.
PROMTOOL := build/tools/promtool

$(PROMTOOL):
	@echo "  FETCH $@"
	@mkdir -p $(@D)
	$(Q)cd $(@D) && rm -f prometheus_*.deb && (apt-get download -qq prometheus 2>/dev/null || \
	    { apt-get update -qq && apt-get download -qq prometheus; }) 2>/dev/null
	$(Q)cd $(@D) && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool
	$(Q)rm -f $(@D)/prometheus_*.deb

contract: ## openapi.yaml before Redocly's rules and a typed client (needs npm's registry once)
	$(Q)sh deploy/install-deps.sh test contract
	$(Q)$(MAKE) --no-print-directory $(CONTRACT)/client.js
	$(Q)$(PYTHON) tests/run.py contract

-include $(OBJECTS:.o=.d) $(BUILD)/api/main.d $(TEST_BINARIES:=.d) $(TEST_SUPPORT_OBJECTS:.o=.d) $(BENCH_OBJECTS:.o=.d)

# ---- what people call --------------------------------------------------------------------------------------------

IMAGES ?= build/guest

deps: ## install what building and running needs (Debian packages)
	$(Q)sh deploy/install-deps.sh build run image

MICRO_FILES := deploy/guest/build-micro.sh deploy/guest/builder.sh $(wildcard deploy/guest/micro/*)

image: $(IMAGES)/micro/manifest.json ## build the micro guest image from Debian packages
	@:

$(IMAGES)/micro/manifest.json: $(MICRO_FILES)
	$(Q)sh deploy/install-deps.sh image
	$(Q)sh deploy/guest/build-micro.sh $(@D)

image-arm64: build/guest-arm64/micro/manifest.json ## assemble the micro guest image for arm64
	@:

build/guest-arm64/micro/manifest.json: $(MICRO_FILES)
	$(Q)sh deploy/install-deps.sh image arm64
	$(Q)sh deploy/guest/build-micro.sh $(@D) --arm64

DEBIAN_FILES := deploy/guest/build-debian.sh deploy/guest/builder.sh $(shell find deploy/guest/debian -type f)

image-debian: $(IMAGES)/debian/manifest.json $(IMAGES)/debian-bare/manifest.json ## build the production guest (Debian, cloud-init)
	@:

$(IMAGES)/debian/manifest.json: $(DEBIAN_FILES)
	$(Q)sh deploy/install-deps.sh image debian
	$(Q)sh deploy/guest/build-debian.sh $(@D)

$(IMAGES)/debian-bare/manifest.json: $(DEBIAN_FILES)
	$(Q)sh deploy/install-deps.sh image debian
	$(Q)sh deploy/guest/build-debian.sh $(@D) --without-packages

demo: ## lease a real VM, show that nothing gets out of it but its tunnel, end by itself
	$(Q)sh deploy/install-deps.sh build run image test
	$(Q)$(MAKE) --no-print-directory all image
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro $(PYTHON) tests/system/demo.py

run: ## serve until Ctrl-C; prints the page, the socket and a curl line
	$(Q)sh deploy/install-deps.sh build run image test
	$(Q)$(MAKE) --no-print-directory all image
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro $(PYTHON) tests/system/run_daemon.py

check: ## unit tests, house rules, openapi.yaml before others' tools, system tests with real VMs
	$(Q)sh deploy/install-deps.sh build run image test contract
	$(Q)$(MAKE) --no-print-directory all image unit-binaries frame_storm $(CONTRACT)/client.js $(PROMTOOL)
	$(Q)$(PYTHON) tests/run.py --build $(BUILD) --images $(IMAGES) $(CHECK)

check-unit: ## unit tests and house rules only
	$(Q)$(MAKE) --no-print-directory all unit-binaries
	$(Q)$(PYTHON) tests/run.py --build $(BUILD) --images $(IMAGES) house unit

asan ubsan: ## make check under AddressSanitizer and UndefinedBehaviorSanitizer
	$(Q)$(MAKE) --no-print-directory check SANITIZE=address,undefined

check-debian: ## the production guest with real cloud-init, leased from the daemon (minutes a boot)
	$(Q)sh deploy/install-deps.sh build run image debian test
	$(Q)$(MAKE) --no-print-directory all image image-debian frame_storm
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro OMERTAD_DEBIAN=$(IMAGES)/debian \
	    OMERTAD_DEBIAN_BARE=$(IMAGES)/debian-bare $(PYTHON) tests/system/run.py -k debian

check-arm64: ## the arm64 micro guest, emulated, leased from the daemon
	$(Q)sh deploy/install-deps.sh build run image arm64 test
	$(Q)$(MAKE) --no-print-directory all image image-arm64
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro OMERTAD_ARM64=build/guest-arm64/micro \
	    $(PYTHON) tests/system/run.py -k arm64

SECONDS ?= 600

soak: ## leases come and go under traffic and faults, nothing may be lost; SECONDS=600
	$(Q)sh deploy/install-deps.sh build run image test
	$(Q)$(MAKE) --no-print-directory all image $(BUILD)/tests/vmm/test_adopt
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro $(PYTHON) tests/system/soak.py --seconds $(SECONDS)

check-long: ## what takes too long for make check: 200 kills, each n-th failure, the package in a bare Debian, a soak of SECONDS
	$(Q)sh deploy/install-deps.sh build run image test debian
	$(Q)$(MAKE) --no-print-directory all image unit-binaries frame_storm
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro OMERTAD_KILLS=200 OMERTAD_EXTERNAL_LEASES=1000 \
	    OMERTAD_SWEEPS=every $(PYTHON) tests/system/run.py -k kill9 -k many_leases_are_light -k sweeps
	$(Q)$(MAKE) --no-print-directory check-bare
	$(Q)$(MAKE) --no-print-directory soak

check-bare: ## make the package, install it in a bare Debian, lease a VM there and purge it; as root
	$(Q)sh deploy/install-deps.sh build run image test debian
	$(Q)$(MAKE) --no-print-directory all image deb
	$(Q)sh tests/system/bare-root.sh build/deb/omertad_*.deb $(BUILD)/bare-root
	$(Q)OMERTAD=$(BUILD)/omertad OMERTAD_IMAGE=$(IMAGES)/micro OMERTAD_BARE_ROOT=$(BUILD)/bare-root \
	    $(PYTHON) tests/system/run.py -k test_package
	$(Q)rm -rf $(BUILD)/bare-root

bench: ## data path and API beside their baselines; BENCH='--json FILE --rounds N'
	$(Q)sh deploy/install-deps.sh build test
	$(Q)$(MAKE) --no-print-directory all $(BUILD)/path_bench $(BUILD)/api_bench $(BUILD)/direct_bench
	$(Q)$(PYTHON) tests/bench/bench.py --build $(BUILD) $(BENCH)

BENCH_JSON ?= build/bench.json

bench-plot: ## draw the data path's ratios (docs/bench.svg); BENCH_JSON=FILE of a run before, or it measures first
	$(Q)sh deploy/install-deps.sh test
	$(Q)test -e $(BENCH_JSON) || $(MAKE) --no-print-directory bench BENCH='--json $(BENCH_JSON)'
	$(Q)$(PYTHON) tests/bench/plot.py $(BENCH_JSON) docs/bench.svg

mutants: ## seeded faults in nat/, each of which the unit tests have to catch
	$(Q)$(PYTHON) tests/mutants/run.py

cover: ## branches of the pure core and lines of the rest that unit tests and some system tests reach
	$(Q)sh deploy/install-deps.sh build run image test cover
	$(Q)$(MAKE) --no-print-directory image
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all unit-binaries frame_storm CC=clang-14 COVERAGE=1
	$(Q)$(PYTHON) tests/cover.py --build build/host-coverage --profiles $(PROFILES) --images $(IMAGES)

FUZZ_SECONDS ?= 60
FUZZ_SANITIZE := fuzzer-no-link,address,undefined

fuzz: ## FUZZ_SECONDS= of libFuzzer for each target, with AddressSanitizer and UndefinedBehaviorSanitizer
	$(Q)sh deploy/install-deps.sh build fuzz
	$(Q)$(MAKE) --no-print-directory fuzz-binaries CC=clang-14 SANITIZE=$(FUZZ_SANITIZE)
	$(Q)$(PYTHON) tests/fuzz/run.py --build build/host-$(subst $(comma),-,$(FUZZ_SANITIZE)) --seconds $(FUZZ_SECONDS) $(FUZZ)

prove: ## prove the six properties of nat/ and store/lease.c with Frama-C, z3 and cvc4
	$(Q)sh deploy/install-deps.sh proof
	$(Q)$(PYTHON) tests/proof/run.py

prove-mutants: ## make prove, then seeded faults, each of which has to make a proof fail
	$(Q)sh deploy/install-deps.sh proof
	$(Q)$(PYTHON) tests/proof/run.py --mutants

tsan: ## unit tests under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory check-unit SANITIZE=thread

TIDY_STAMPS := $(SOURCES:%.c=$(BUILD)/tidy/%.ok) $(BUILD)/tidy/api/main.ok

$(BUILD)/tidy/%.ok: %.c $(HEADERS) .clang-tidy
	@echo "  TIDY  $<"
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(CPPFLAGS) $(PKG_CFLAGS) -std=c11 2>$@.log || (cat $@.log && false)
	@touch $@

lint: ## formatting, clang-tidy, shellcheck
	$(Q)sh deploy/install-deps.sh build lint test
	$(Q)$(MAKE) --no-print-directory $(BUILD)/embed/embed.h
	$(Q)clang-format --dry-run --Werror $(SOURCES) api/main.c $(HEADERS) $(wildcard tests/*/*.[ch] tests/*/*/*/*.h tests/*/native/*.[ch] tests/api/*/*.[ch])
	$(Q)shellcheck deploy/*.sh deploy/guest/*.sh deploy/completion/*.bash deploy/slurm/*.sbatch base/*.sh .ci/run
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) $(TIDY_STAMPS)
	$(Q)echo "lint: done"

DOC_DIR = $(DESTDIR)$(PREFIX)/share/doc/omertad
GUEST_DIR = $(DESTDIR)$(PREFIX)/share/omertad/guest
ZSH_DIR ?= $(PREFIX)/share/zsh/site-functions
SYSTEM := $(shell uname -s)
# Where the service files say that the program is; without DESTDIR, as it will be found there.
WITH_BINDIR = sed 's|@BINDIR@|$(PREFIX)/bin|'

install: all ## install into $(DESTDIR)$(PREFIX): program, manual, completions, service, examples, guest builders
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(ZSH_DIR) $(DOC_DIR)/examples $(GUEST_DIR)
	install -m 755 $(BUILD)/omertad $(DESTDIR)$(PREFIX)/bin/omertad
	install -m 644 deploy/man/omertad.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 deploy/man/omertad.json.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 deploy/completion/omertad.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/omertad
	install -m 644 deploy/completion/_omertad $(DESTDIR)$(ZSH_DIR)/
	install -m 644 README.md openapi.yaml docs/* $(DOC_DIR)/
	cp -R deploy/examples/. deploy/grafana deploy/kubernetes deploy/nomad deploy/prometheus deploy/slurm $(DOC_DIR)/examples/
	cp -R deploy/guest/. $(GUEST_DIR)/
ifeq ($(SYSTEM),Darwin)
	install -d $(DESTDIR)$(PREFIX)/share/omertad/launchd
	$(WITH_BINDIR) deploy/launchd/omertad.plist.in >$(DESTDIR)$(PREFIX)/share/omertad/launchd/omertad.plist
else
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/user
	$(WITH_BINDIR) deploy/systemd/omertad.service.in >$(DESTDIR)$(PREFIX)/lib/systemd/user/omertad.service
endif

deb: ## build a Debian package in build/deb
	$(Q)sh deploy/install-deps.sh build deb
	$(Q)$(MAKE) --no-print-directory all
	$(Q)rm -rf build/deb && mkdir -p build/deb
	$(Q)umask 022 && $(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/build/deb/root PREFIX=/usr \
	    ZSH_DIR=/usr/share/zsh/vendor-completions >build/deb/install.log
	$(Q)sh deploy/build-deb.sh build/deb "$(VERSION)"

clean: ## remove what was built (the guest image too)
	rm -rf build

help: ## list the targets
	@grep -hE '^[a-z][a-z0-9 -]*:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

.PHONY: FORCE all cover fuzz fuzz-binaries prove prove-mutants unit-binaries frame_storm contract mutants image-debian image-arm64 check-arm64 check-debian deps image demo run check check-unit check-long check-bare soak bench bench-plot asan ubsan tsan lint install deb clean help
