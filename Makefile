# sandboxd. `make` builds, `sudo make demo` shows it at work, `sudo make check` tests it.
# HACKING.md explains the rest.

VERSION := 0.1.0
BUILD   ?= build
GEN     := $(BUILD)/gen

CC      ?= gcc
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

PKGS    := libuv libprotobuf-c libnghttp2 yaml-0.1 jansson sqlite3
# Empty before `make deps` has run; nothing that needs them is built then.
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
ALL_CFLAGS := $(CPPFLAGS) $(CFLAGS) $(WARN) $(HARDEN) $(SECTIONS) $(PKG_CFLAGS) -MMD -MP
LDFLAGS += -Wl,--gc-sections -Wl,--as-needed -Wl,-z,relro,-z,now

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all deps demo check unit e2e lint bench clean install
all: $(BUILD)/sandboxd $(BUILD)/runtimed $(BUILD)/sandboxctl

# --- generated from proto/ -------------------------------------------------------------------
PROTOS := $(sort $(shell cd proto && find . -name '*.proto' | sed 's,^\./,,'))
WELL_KNOWN := google/protobuf/any.proto google/protobuf/timestamp.proto
PROTO_INCLUDE := $(firstword $(wildcard /usr/local/include/google/protobuf /usr/include/google/protobuf))
GEN_SRC := $(PROTOS:%.proto=$(GEN)/%.pb-c.c) $(WELL_KNOWN:%.proto=$(GEN)/%.pb-c.c)
GEN_OBJ := $(GEN_SRC:%.c=%.o) $(GEN)/methods.o

$(GEN)/%.pb-c.c: proto/%.proto
	@mkdir -p $(GEN)
	protoc-c -Iproto --c_out=$(GEN) $<
# protobuf-c ships no header for the well-known types.
$(GEN)/google/protobuf/%.pb-c.c: $(PROTO_INCLUDE)/%.proto
	@mkdir -p $(GEN)
	protoc-c -I$(patsubst %/google/protobuf,%,$(PROTO_INCLUDE)) --c_out=$(GEN) $<
$(GEN)/descriptors.bin: $(addprefix proto/,$(PROTOS))
	@mkdir -p $(GEN)
	protoc -Iproto --include_imports --descriptor_set_out=$@ $^
$(GEN)/methods.c: $(GEN)/descriptors.bin rpc/methods.py
	/usr/bin/python3 rpc/methods.py $< $(GEN)
# Every object may include generated headers; they are made first.
GENERATED := $(GEN_SRC) $(GEN)/methods.c

# --- objects and libraries -------------------------------------------------------------------
$(GEN)/%.o: $(GEN)/%.c | $(GENERATED)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -Wno-conversion -c -o $@ $<
$(BUILD)/obj/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard $(1)/*.c))
# The layers, lowest last: each may use those after it (DESIGN: who may include whom).
$(BUILD)/lib%.a:
	@rm -f $@
	ar rcs $@ $^
$(BUILD)/libbase.a: $(call objects,base)
$(BUILD)/librpc.a: $(call objects,rpc) $(GEN_OBJ)
$(BUILD)/libruntimed-client.a: $(call objects,runtimed-client)
$(BUILD)/libconfig.a: $(call objects,config)
# main.o stays out, so that a unit test can link a program's modules.
$(BUILD)/libdaemon.a: $(filter-out %/main.o,$(call objects,daemon))
$(BUILD)/libruntimed.a: $(filter-out %/main.o,$(call objects,runtimed))
$(BUILD)/libcli.a: $(filter-out %/main.o,$(call objects,cli))

DAEMON_LIBS := $(patsubst %,$(BUILD)/lib%.a,daemon runtimed-client config rpc base)
$(BUILD)/sandboxd: $(BUILD)/obj/daemon/main.o $(DAEMON_LIBS)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ \
	    -lnghttp2 -luv -lprotobuf-c -lyaml -ljansson -lsqlite3 -lpthread
$(BUILD)/sandboxctl: $(BUILD)/obj/cli/main.o $(patsubst %,$(BUILD)/lib%.a,cli rpc base)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -luv -lprotobuf-c -ljansson -lpthread
# Runs in any root file system, so it brings everything along.
$(BUILD)/runtimed: $(BUILD)/obj/runtimed/main.o $(patsubst %,$(BUILD)/lib%.a,runtimed rpc base)
	$(CC) $(filter-out -fsanitize=% -fno-sanitize-recover=%,$(CFLAGS)) $(LDFLAGS) -static -o $@ $^ \
	    -l:libuv_a.a -lprotobuf-c -lpthread

# --- tests -----------------------------------------------------------------------------------
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(DAEMON_LIBS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka \
	    -lnghttp2 -luv -lprotobuf-c -lyaml -ljansson -lsqlite3 -lpthread
unit: $(UNIT)
	@set -e; for t in $(UNIT); do $$t; done

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
