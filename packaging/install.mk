# `make install`, `make uninstall`, `make deb`; `make check-packages` tests them.
#
#     sudo make install                             # below /usr/local
#     make install DESTDIR=tree prefix=/usr         # as a package has it

prefix     ?= /usr/local
bindir     ?= $(prefix)/bin
sbindir    ?= $(prefix)/sbin
libexecdir ?= $(prefix)/libexec/sandboxd
datadir    ?= $(prefix)/share
mandir     ?= $(datadir)/man
docdir     ?= $(datadir)/doc/sandboxd
unitdir    ?= $(prefix)/lib/systemd/system
# Where the daemon looks, whatever the prefix.
CONFIG     := /etc/sandboxd/sandboxd.yaml

zshdir     ?= $(datadir)/zsh/site-functions

# Made of what the programs say of themselves, with the date of the version, so that the same tree
# gives the same bytes. NATIVE: where programs lie that this machine can run.
NATIVE ?= $(BUILD)
RELEASED := $(shell sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -n 1)
MAN := $(patsubst packaging/man/%.in,$(BUILD)/man/%,$(wildcard packaging/man/*.in))
$(BUILD)/man/%: packaging/man/%.in packaging/man/man.py $(NATIVE)/sandboxd $(NATIVE)/sandboxctl \
                docs/configuration.md packaging/debian/changelog
	$(call say,GEN,$@)
	mkdir -p $(@D)
	$(PYTHON) packaging/man/man.py $(@F) '$(VERSION)' '$(RELEASED)' $(NATIVE) >$@

# The files, each as mode:from:to.
into  = $(foreach f,$(3),$(1):$(f):$(2)/$(notdir $(f)))
below = $(foreach f,$(4),$(1):$(3)$(f):$(2)/$(f)) # keeps the directories that stand in the name
UNITS := $(call into,644,$(unitdir),$(wildcard packaging/systemd/*))
FILES := $(call into,755,$(sbindir),$(BUILD)/sandboxd) \
         $(call into,755,$(bindir),$(BUILD)/sandboxctl) \
         $(call into,755,$(libexecdir),$(BUILD)/runtimed) \
         $(UNITS) \
         $(foreach f,$(MAN),644:$(f):$(mandir)/man$(patsubst .%,%,$(suffix $(f)))/$(notdir $(f))) \
         644:cli/completion.bash:$(datadir)/bash-completion/completions/sandboxctl \
         644:cli/completion.zsh:$(zshdir)/_sandboxctl \
         644:packaging/sysusers.conf:$(prefix)/lib/sysusers.d/sandboxd.conf \
         644:packaging/tmpfiles.conf:$(prefix)/lib/tmpfiles.d/sandboxd.conf \
         $(call below,644,$(datadir)/sandboxd/proto,proto/,$(filter sandboxd/v1/%,$(PROTOS))) \
         $(call into,644,$(datadir)/sandboxd/grafana,$(wildcard packaging/grafana/*.json)) \
         $(call into,644,$(datadir)/sandboxd/prometheus,$(wildcard packaging/prometheus/*.rules.yml)) \
         $(call into,644,$(docdir),README.md HACKING.md LICENSE) \
         $(call into,644,$(docdir)/docs,$(filter-out %.in.md,$(wildcard docs/*.md))) \
         $(call below,644,$(docdir),,$(wildcard examples/*/*.* examples/*/src/*.*))

.PHONY: install uninstall deb
install: all $(MAN)
	$(call say,INSTALL,$(DESTDIR)$(prefix))
	for f in $(FILES); do \
	    from=$${f#*:}; \
	    install -D -m "$${f%%:*}" "$${from%:*}" "$(DESTDIR)$${f##*:}" || exit; \
	done
	for f in $(UNITS); do \
	    sed -i -e 's,\([= ]\)/usr/sbin/sandboxd,\1$(sbindir)/sandboxd,g' \
	        -e 's,\([= ]\)/usr/bin/sandboxctl,\1$(bindir)/sandboxctl,g' \
	        "$(DESTDIR)$${f##*:}" || exit; \
	done
	install -d "$(DESTDIR)$(dir $(CONFIG))conf.d"
	[ -e "$(DESTDIR)$(CONFIG)" ] || install -m 644 config/sandboxd.yaml "$(DESTDIR)$(CONFIG)"

# What an operator wrote stays.
uninstall:
	$(call say,REMOVE,$(DESTDIR)$(prefix))
	for f in $(FILES); do rm -f "$(DESTDIR)$${f##*:}"; done
	! cmp -s config/sandboxd.yaml "$(DESTDIR)$(CONFIG)" || rm -f "$(DESTDIR)$(CONFIG)"
	for d in $(dir $(CONFIG))conf.d $(dir $(CONFIG)) $(libexecdir) $(datadir)/sandboxd $(docdir); do \
	    [ ! -d "$(DESTDIR)$$d" ] || find "$(DESTDIR)$$d" -depth -type d -empty -delete; \
	done

# A tree of its own, so that debian/ does not lie in this one. The version may be another:
# make deb VERSION=0.2.0
DEB := $(BUILD)/deb
deb:
	$(call say,DEB,$(DEB))
	packaging/deb.sh $(VERSION) $(DEB)

.PHONY: check-packages
check-packages: all $(PY_STUBS)
	$(E2E_ENV) $(PYTHON) -m pytest -c tests/packages/pytest.ini tests/packages $(PYTEST)
