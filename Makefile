# sandboxd. `make` builds, `sudo make demo` shows it at work, `sudo make check` tests it.
# HACKING.md explains the rest.

VERSION := 0.1.0
# `make CROSS=aarch64 …` builds for that machine; `make CROSS=aarch64 deps` fetches what it needs.
BUILD   ?= $(if $(CROSS),build/$(CROSS),build)
GEN     := $(BUILD)/gen

CC      ?= gcc
# Debian's own, which has Debian's python3-* packages; another may come first in PATH.
PYTHON  := /usr/bin/python3
# What `make deps` fetches and does not install. Shared by all values of BUILD; `clean` keeps it.
DEPS    := build/deps
CFLAGS  ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings \
           -Wformat=2 -Wundef -Wpointer-arith -Wconversion -Wno-sign-conversion \
           -Wno-format-truncation -Werror
HARDEN  := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fno-strict-aliasing
CPPFLAGS += -D_GNU_SOURCE -DSANDBOXD_VERSION='"$(VERSION)"' -I. -I$(GEN)
SECTIONS := -ffunction-sections -fdata-sections

# `make SANITIZE=1 BUILD=build/asan …` builds the same with ASan and UBSan.
ifdef SANITIZE
CFLAGS  := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
HARDEN  := -fno-strict-aliasing
endif

# `make FAILPOINTS=1 BUILD=build/failpoints …`: sandboxd kills itself where SANDBOXD_FAILPOINT says
# (base/failpoint.h).
ifdef FAILPOINTS
CPPFLAGS += -DFAILPOINTS
endif

# `make fuzz` builds with this, in a directory of its own. gcc judges the code, not clang. To add 0
# to NULL, as an empty buffer does, is defined in the next C (N3322), and by every compiler today.
ifdef FUZZ
CC      := clang
WARN    := -Wall -Wno-unknown-warning-option
CFLAGS  := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
           -fno-sanitize=pointer-overflow -fno-sanitize-recover=undefined
HARDEN  := -fno-strict-aliasing
endif

PKG_CONFIG ?= pkg-config
ifdef CROSS
ifneq ($(CROSS),aarch64)
$(error CROSS: aarch64 is the one that there is)
endif
SYSROOT := $(abspath $(DEPS))/arm64
CC      := $(CROSS)-linux-gnu-gcc --sysroot=$(SYSROOT)
AR      := $(CROSS)-linux-gnu-ar
PKG_CONFIG := PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) \
    PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(CROSS)-linux-gnu/pkgconfig:$(SYSROOT)/usr/share/pkgconfig \
    pkg-config
# What runs its programs here.
EMULATOR := $(DEPS)/qemu/usr/bin/qemu-$(CROSS) -L $(SYSROOT)
endif

PKGS    := libuv libprotobuf-c libnghttp2 yaml-0.1 jansson sqlite3 libsystemd libmicrohttpd libcurl
# Empty before `make deps` has run; nothing that needs them is built then.
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
ALL_CFLAGS := $(CPPFLAGS) $(CFLAGS) $(WARN) $(HARDEN) $(SECTIONS) $(PKG_CFLAGS) -MMD -MP
LDFLAGS += -Wl,--gc-sections -Wl,--as-needed -Wl,-z,relro,-z,now

# Commands are shown with V=1.
ifndef V
.SILENT:
endif
say = printf '  %-7s %s\n' $(1) $(2)

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all deps build-deps demo check unit e2e lint bench clean distclean
all: $(BUILD)/sandboxd $(BUILD)/runtimed $(BUILD)/sandboxctl

# --- generated from proto/ -------------------------------------------------------------------
PROTOS := $(sort $(shell cd proto && find . -name '*.proto' | sed 's,^\./,,'))
WELL_KNOWN := google/protobuf/any.proto google/protobuf/timestamp.proto
PROTO_INCLUDE := $(firstword $(wildcard /usr/local/include/google/protobuf /usr/include/google/protobuf))
GEN_SRC := $(PROTOS:%.proto=$(GEN)/%.pb-c.c) $(WELL_KNOWN:%.proto=$(GEN)/%.pb-c.c)
GEN_OBJ := $(GEN_SRC:%.c=%.o) $(GEN)/methods.o

$(GEN)/%.pb-c.c: proto/%.proto
	$(call say,PROTOC,$@)
	mkdir -p $(GEN)
	protoc -Iproto --c_out=$(GEN) $<
# protobuf-c ships no header for the well-known types.
$(GEN)/google/protobuf/%.pb-c.c: $(PROTO_INCLUDE)/%.proto
	$(call say,PROTOC,$@)
	mkdir -p $(GEN)
	protoc -I$(patsubst %/google/protobuf,%,$(PROTO_INCLUDE)) --c_out=$(GEN) $<
$(GEN)/descriptors.bin: $(addprefix proto/,$(PROTOS))
	$(call say,PROTOC,$@)
	mkdir -p $(GEN)
	protoc -Iproto --include_imports --descriptor_set_out=$@ $^
$(GEN)/methods.c: $(GEN)/descriptors.bin rpc/methods.py
	$(call say,GEN,$@)
	$(PYTHON) rpc/methods.py $< $(GEN)
# The scripts that sandboxctl prints, as strings.
COMPLETIONS := cli/completion.bash cli/completion.zsh
$(GEN)/completions.h: $(COMPLETIONS)
	$(call say,GEN,$@)
	mkdir -p $(GEN)
	for f in $^; do \
	    echo "static const char completion_$${f##*.}[] ="; \
	    sed 's/[\\"]/\\&/g; s/.*/        "&\\n"/; $$s/$$/;/' "$$f"; \
	done >$@
# Every object may include generated headers; they are made first.
GENERATED := $(GEN_SRC) $(GEN)/methods.c $(GEN)/completions.h

# --- objects and libraries -------------------------------------------------------------------
$(GEN)/%.o: $(GEN)/%.c | $(GENERATED)
	$(call say,CC,$@)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -Wno-conversion -c -o $@ $<
$(BUILD)/obj/%.o: %.c | $(GENERATED)
	$(call say,CC,$@)
	mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard $(1)/*.c))
# The layers, lowest last: each may use those after it (HACKING.md: who may include whom).
$(BUILD)/lib%.a:
	$(call say,AR,$@)
	rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/libbase.a: $(call objects,base)
$(BUILD)/librpc.a: $(call objects,rpc) $(GEN_OBJ)
$(BUILD)/libmanifest.a: $(call objects,manifest)
$(BUILD)/libruntimed-client.a: $(call objects,runtimed-client)
$(BUILD)/libconfig.a: $(call objects,config)
# main.o stays out, so that a unit test can link a program's modules.
$(BUILD)/libdaemon.a: $(filter-out %/main.o,$(call objects,daemon))
$(BUILD)/libruntimed.a: $(filter-out %/main.o,$(call objects,runtimed))
$(BUILD)/libcli.a: $(filter-out %/main.o,$(call objects,cli))

DAEMON_LIBS := $(patsubst %,$(BUILD)/lib%.a,daemon runtimed-client config rpc base)
DAEMON_LDLIBS := -lnghttp2 -luv -lprotobuf-c -lyaml -ljansson -lsqlite3 -lsystemd -lpthread
$(BUILD)/sandboxd: $(BUILD)/obj/daemon/main.o $(DAEMON_LIBS)
	$(call say,LD,$@)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ $(DAEMON_LDLIBS)
$(BUILD)/sandboxctl: $(BUILD)/obj/cli/main.o $(patsubst %,$(BUILD)/lib%.a,cli manifest rpc base)
	$(call say,LD,$@)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -luv -lprotobuf-c -lyaml -ljansson -lmicrohttpd -lpthread
# Runs in any root file system, so it brings everything along. A static program cannot carry the
# sanitizers: a sanitized build gets a plain one.
ifdef SANITIZE
$(BUILD)/runtimed:
	$(MAKE) SANITIZE= BUILD=$(BUILD)/plain $(BUILD)/plain/runtimed
	cp $(BUILD)/plain/runtimed $@
.PHONY: $(BUILD)/runtimed
else
$(BUILD)/runtimed: $(BUILD)/obj/runtimed/main.o $(patsubst %,$(BUILD)/lib%.a,runtimed manifest rpc base)
	$(call say,LD,$@)
	$(CC) $(CFLAGS) $(LDFLAGS) -static -o $@ $^ \
	    $$($(PKG_CONFIG) --libs libuv-static) -lprotobuf-c -lyaml -ljansson -lpthread
endif

# --- tests -----------------------------------------------------------------------------------
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
TEST_LIBS := $(patsubst %,$(BUILD)/lib%.a,cli runtimed manifest) $(DAEMON_LIBS)
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(TEST_LIBS)
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka $(DAEMON_LDLIBS) -lmicrohttpd
unit: $(UNIT)
	EMULATOR='$(EMULATOR)' tests/unit.sh $^

# The server of the interop tests and the RPC benchmark, with a service of its own.
ECHO_PROTO := tests/interop/proto
ECHO := sandboxd/test/v1/echo
$(GEN)/$(ECHO).pb-c.c: $(ECHO_PROTO)/$(ECHO).proto
	$(call say,PROTOC,$@)
	mkdir -p $(GEN)
	protoc -I$(ECHO_PROTO) --c_out=$(GEN) $<
$(GEN)/echo.bin: $(ECHO_PROTO)/$(ECHO).proto
	$(call say,PROTOC,$@)
	mkdir -p $(GEN)
	protoc -I$(ECHO_PROTO) --include_imports --descriptor_set_out=$@ $<
$(GEN)/echo_methods.c: $(GEN)/echo.bin rpc/methods.py
	$(call say,GEN,$@)
	$(PYTHON) rpc/methods.py $< $(GEN) echo_methods
ECHO_OBJ := $(addprefix $(BUILD)/obj/tests/interop/,echod.o echo.o)
$(ECHO_OBJ): $(GEN)/$(ECHO).pb-c.c $(GEN)/echo_methods.c
$(BUILD)/tests/echod: $(ECHO_OBJ) $(GEN)/$(ECHO).pb-c.o $(GEN)/echo_methods.o $(TEST_LIBS)
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DAEMON_LDLIBS)

# --- fuzzers ---------------------------------------------------------------------------------
# For so long each, two at a time. What they find of use stays in $(BUILD)/fuzz/corpus.
FUZZ_SECONDS ?= 30
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
.PHONY: fuzz
fuzz:
	$(MAKE) FUZZ=1 BUILD=$(BUILD)/fuzz $(FUZZERS:%=$(BUILD)/fuzz/tests/fuzz_%)
	tests/fuzz/run.sh $(BUILD)/fuzz $(FUZZ_SECONDS) $(FUZZERS)

ifdef FUZZ
FUZZ_OBJ := $(patsubst %,$(BUILD)/obj/tests/fuzz/%.o,fuzz service client client_grpc client_ttrpc) \
            $(BUILD)/obj/tests/interop/echo.o
FUZZERS_OBJ := $(FUZZERS:%=$(BUILD)/obj/tests/fuzz/fuzz_%.o)
$(FUZZ_OBJ) $(FUZZERS_OBJ): $(GEN)/$(ECHO).pb-c.c $(GEN)/echo_methods.c
$(BUILD)/tests/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(FUZZ_OBJ) $(GEN)/$(ECHO).pb-c.o \
                       $(GEN)/echo_methods.o $(TEST_LIBS)
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(DAEMON_LDLIBS)
endif

# The stubs that any Python client would generate from proto/.
PY_STUBS := $(GEN)/python/stamp
$(PY_STUBS): $(addprefix proto/,$(filter-out grpc/%,$(PROTOS)))
	$(call say,PROTOC,$(@D))
	mkdir -p $(@D)
	$(PYTHON) -m grpc_tools.protoc -Iproto --python_out=$(@D) --grpc_python_out=$(@D) $^
	touch $@

# One test: make e2e PYTEST='-k restart -x'
E2E_ENV := BUILD=$(abspath $(BUILD)) DEPS=$(abspath $(DEPS)) PYTHONPATH=$(abspath $(GEN)/python):$(abspath tests/e2e) \
           PYTHONDONTWRITEBYTECODE=1
# What the tests run in sandboxes.
INSIDE := $(BUILD)/tests/inside
$(INSIDE): $(BUILD)/obj/tests/e2e/inside.o
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -static -o $@ $^
# With the C library of Alpine, for its resolver.
REACH := $(BUILD)/tests/reach
$(REACH): tests/e2e/reach.c
	$(call say,CC,$@)
	mkdir -p $(@D)
	musl-gcc -O2 $(WARN) -static -o $@ $<
# All of them go two at a time: mostly they wait.
e2e: all $(PY_STUBS) $(INSIDE) $(REACH)
	$(E2E_ENV) $(PYTHON) -m pytest -c tests/e2e/pytest.ini tests/e2e $(or $(PYTEST),-n 2)

# Other languages' stock clients, against echod.
.PHONY: check-interop
check-interop: all $(PY_STUBS) $(BUILD)/tests/echod
	PYTHON=$(PYTHON) tests/interop/build.sh $(BUILD)/interop
	$(E2E_ENV) $(PYTHON) -m pytest -c tests/interop/pytest.ini tests/interop $(PYTEST)

# Clients in C, for what Python is too slow for.
BENCH_CLIENTS := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
$(BENCH_CLIENTS): $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/librpc.a $(BUILD)/libbase.a
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -luv -lprotobuf-c -lpthread

# Run by `make check-torture`.
$(BUILD)/tests/power_loss: $(addprefix $(BUILD)/obj/tests/torture/,power_loss.o journal_vfs.o) \
                           $(TEST_LIBS)
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka $(DAEMON_LDLIBS)

# Crashes at every step, kill -9 at random moments, stuck things, damage, loss of power. The short form;
# LONG=1 is all of it, an hour. One test: make check-torture PYTEST='-k stuck'
.PHONY: check-torture
check-torture: all $(PY_STUBS) $(INSIDE) $(BENCH_CLIENTS) $(BUILD)/tests/power_loss
	$(MAKE) FAILPOINTS=1 BUILD=$(BUILD)/failpoints all
	$(BUILD)/tests/power_loss
	$(E2E_ENV) FAILPOINTS_BUILD=$(abspath $(BUILD))/failpoints \
	    $(PYTHON) -m pytest -c tests/torture/pytest.ini tests/torture $(PYTEST)

# The package in a booted Debian: make check-system PYTEST='-x'
.PHONY: check-system
check-system: all deb $(PY_STUBS)
	$(E2E_ENV) $(PYTHON) -m pytest -c tests/system/pytest.ini tests/system $(PYTEST)

lint: $(BUILD)/sandboxd
	$(PYTHON) tests/lint/rules.py
	tests/lint/tools.sh $(BUILD)/lint
	docs/configuration.sh $(abspath $(BUILD)/sandboxd) --check

# What is generated and committed: docs/api.md, docs/configuration.md, config/sandboxd.yaml.
.PHONY: docs
docs: $(BUILD)/sandboxd
	$(PYTHON) docs/api.py
	docs/configuration.sh $(abspath $(BUILD)/sandboxd)

bench: all $(PY_STUBS) $(INSIDE) $(BENCH_CLIENTS)
	$(E2E_ENV) $(PYTHON) tests/bench/bench.py

# Of the RPC layer, beside its peers: make bench-rpc ROUNDS=1
.PHONY: bench-rpc
BENCH_RPC := $(patsubst tests/bench/rpc/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/rpc/*.c))
$(BENCH_RPC): $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/rpc/%.o $(BUILD)/librpc.a $(BUILD)/libbase.a
	$(call say,LD,$@)
	mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lnghttp2 -luv -lprotobuf-c -lpthread
bench-rpc: $(BENCH_RPC) $(BUILD)/tests/echod
	tests/bench/rpc/peers.sh $(BUILD)/bench
	BUILD=$(abspath $(BUILD)) $(PYTHON) tests/bench/rpc/bench.py

# --- onto a machine ---------------------------------------------------------------------------
include packaging/install.mk

# --- the two commands of README.md -----------------------------------------------------------
deps:
	packaging/deps.sh $(DEPS) $(CROSS)
# Without what only the tests need.
build-deps:
	packaging/deps.sh $(DEPS) build

# An image to work in, as a root file system ($(DEPS)/image-dev) and an archive of it.
.PHONY: image-dev
image-dev:
	packaging/image-dev.sh $(DEPS)/image-dev $(BUILD)/image-dev.tar

# make reads pkg-config when it starts, before `deps` has run: what builds is a make of its own.
JOBS := -j$(shell nproc)
demo: build-deps
	$(MAKE) $(JOBS) all
	docs/demo.sh $(BUILD) $(DEPS)

# For another machine: all of it built, its unit tests in an emulator (tests/unit/emulation.h).
.PHONY: check-cross
check-cross:
	$(MAKE) CROSS=aarch64 deps
	$(MAKE) $(JOBS) CROSS=aarch64 BUILD=$(BUILD)/aarch64 all unit

# STRICT=1: a skipped test is a failure.
check: deps
	$(MAKE) $(JOBS) all
	$(MAKE) lint
	$(MAKE) $(JOBS) unit
	$(MAKE) $(JOBS) SANITIZE=1 BUILD=$(BUILD)/asan unit
	$(MAKE) check-cross
	$(MAKE) $(JOBS) fuzz
	$(MAKE) $(JOBS) check-interop
	$(MAKE) check-packages
	$(MAKE) $(JOBS) check-torture
	$(MAKE) $(JOBS) check-system
	$(MAKE) image-dev
	$(MAKE) e2e

clean:
	if [ -d $(BUILD) ]; then find $(BUILD) -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +; fi
distclean:
	rm -rf build $(BUILD)

-include $(shell find $(BUILD) -path $(BUILD)/deps -prune -o -path $(DEB) -prune -o -name '*.d' -type f -print 2>/dev/null)
