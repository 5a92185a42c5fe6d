# Sonar: build, try, test and install. `make help` lists the targets that are promised; GNU make 4.
#
# All state of a checkout is in .venv, build and demo-state; `make clean` removes it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# ---- settings ------------------------------------------------------------------------------------------------------

PREFIX        ?= /usr/local
SYSCONFDIR    ?= /etc
LIBDIR        ?= $(PREFIX)/lib/sonar-server
LIBEXECDIR    ?= $(PREFIX)/libexec
BINDIR        ?= $(PREFIX)/bin
MANDIR        ?= $(PREFIX)/share/man
UNITDIR       ?= $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(PREFIX)/lib/systemd/system)
SYSUSERSDIR   ?= /usr/lib/sysusers.d
TMPFILESDIR   ?= /usr/lib/tmpfiles.d
PRESETDIR     ?= /usr/lib/systemd/system-preset
CATALOGDIR    ?= /usr/lib/systemd/catalog
DESTDIR       ?=

# The interpreter of the system, not one in somebody's home: services run as another user. The first that is new enough.
PYTHON ?= $(firstword $(foreach p,/usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11,\
            $(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))) /usr/bin/python3)

# Where `sonalyze` and the like are on PATH; everything else stays in libexec.
COMMANDS := sonarctl sonalyze naicreport
VENV_PYTHON := .venv/bin/python

# ---- targets that are promised -------------------------------------------------------------------------------------

.PHONY: all help demo check lint generate bench torture install install-venv install-files wheelhouse deb deb-only rpm uninstall clean deps deps-check test

all: .venv/.complete  ## a virtual environment in .venv with everything installed

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: all  ## the whole way on loopback, until Ctrl-C (DEMO_SECONDS=N: for N seconds)
	@$(VENV_PYTHON) -m sonar.demo --state demo-state $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

check: deps-check all lint test  ## lint and all tests; the tests under a real systemd need root

test: all
	$(VENV_PYTHON) -m pytest

lint: all  ## style, types, layers, man pages
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	mandoc -T lint -W warning man/*.[0-9]

generate: all  ## bring examples and manual pages up to date with the tables of settings
	$(VENV_PYTHON) -m sonar.config.write

bench: all  ## measure; prints the table that HACKING.md quotes
	$(VENV_PYTHON) bench/run.py

# Coverage-guided, for so long each target of tests/fuzz.
FUZZ_SECONDS ?= 90

torture: all  ## an hour: 1,000 kills under load, 10,000 connections, a day of reports, long fuzzing (FUZZ_SECONDS=90 a target)
	$(VENV_PYTHON) -m tests.ingest.torture 1000
	$(VENV_PYTHON) bench/connections.py
	SONAR_TEST_DAY=whole $(VENV_PYTHON) -m pytest -q -s --timeout=3600 tests/system/test_report_day.py
	SONAR_FUZZ_EXAMPLES=20000 $(VENV_PYTHON) -m pytest -q --timeout=3000 tests/ingest/test_fuzz.py
	$(VENV_PYTHON) -m tests.fuzz --seconds $(FUZZ_SECONDS)

clean:  ## remove everything that make and the demo have made
	rm -rf .venv build demo-state *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find sonar tests libexec -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the environment -----------------------------------------------------------------------------------------------

# Packages of the system: systemd-python is built from source; the rest is for the tests.
APT_BUILD := python3-venv python3-dev libsystemd-dev pkg-config gcc
APT_CHECK := chromium fonts-dejavu-core mandoc systemd dbus iproute2 util-linux curl
DNF_BUILD := python3.11 python3.11-devel systemd-devel pkgconf-pkg-config gcc
DNF_CHECK := mandoc systemd dbus-daemon iproute util-linux curl

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# $(call install_missing,APT PACKAGES,DNF PACKAGES)
define install_missing
	@if [ -n "$(NO_DEPS)" ]; then :; \
	elif command -v apt-get >/dev/null; then \
	  missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q ' installed$$' || echo $$p; done); \
	  if [ -n "$$missing" ]; then echo "Installing packages of the system:" $$missing; \
	    $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi; \
	elif command -v dnf >/dev/null; then \
	  missing=$$(for p in $(2); do rpm -q --quiet --whatprovides $$p || echo $$p; done); \
	  if [ -n "$$missing" ]; then echo "Installing packages of the system:" $$missing; $(SUDO) dnf install -y -q $$missing; fi; \
	else echo "Neither apt-get nor dnf is here; these must be installed by hand: $(1)"; fi
endef

deps:
	$(call install_missing,$(APT_BUILD),$(DNF_BUILD))

deps-check:
	$(call install_missing,$(APT_BUILD) $(APT_CHECK),$(DNF_BUILD) $(DNF_CHECK))

.venv/.complete: setup.cfg pyproject.toml | deps
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Sonar needs Python 3.11 or newer, $(PYTHON) is older")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --use-pep517 -e '.[dev]'
	touch $@

# ---- installation --------------------------------------------------------------------------------------------------

UNITS := $(wildcard units/*.service units/*.socket units/*.target units/*.slice units/*.timer units/*.path)
DROP_INS := $(wildcard units/*.d/*.conf)
PAGES := $(wildcard man/*.[0-9])
STAGE := $(DESTDIR)$(LIBDIR)/venv.new
RESTARTED := sonar-infiltrate.service sonar-sonalyzed.service sonar-sonard.service sonar-exfiltrate.service

# Where the wheels come from: the package index, or, where there is none, a directory that `make wheelhouse` has made.
PIP_SOURCE := $(if $(WHEELHOUSE),--no-index --find-links "$(abspath $(WHEELHOUSE))")
# EXTRAS=oidc,kafka adds what these need.
WITH_SYSTEM := $(if $(SYSTEM_SITE_PACKAGES),--system-site-packages)

# What runs of an older version is restarted, which refuses no connection: the service manager holds the ports.
install: install-venv install-files  ## into PREFIX (/usr/local), honouring DESTDIR; enables and starts nothing
	@[ -n "$(DESTDIR)" ] || { systemd-sysusers; systemd-tmpfiles --create sonar-server.conf; journalctl --update-catalog; \
	  ! [ -d /run/systemd/system ] || { systemctl daemon-reload; systemctl try-restart $(RESTARTED); }; \
	  "$(LIBDIR)/prune"; \
	  echo "Installed. Next, as sonar(7) has it: sonarctl cert ca; sonarctl cert server HOST; sonarctl cluster add NAME;"; \
	  echo "sonarctl passwd add YOU --query --role admin; systemctl enable --now sonar.target; sonarctl doctor"; }

# A private environment made from the system's interpreter, and the programs that run in it. Of its bin only the
# interpreter is used, so the tree may be staged and moved; what names the stage is removed. Services cannot write
# bytecode, so it is made here. The directory is called after what is in it, and each program names its own: whatever
# runs imports modules of its own version until it ends. The link `venv`, swapped by a rename, decides what starts.
install-venv: $(if $(WHEELHOUSE),,deps)
	case "$(PYTHON)" in /root/*|/home/*) echo "PYTHON=$(PYTHON) lies in a home, which services cannot read" >&2; exit 1;; esac
	install -d "$(DESTDIR)$(LIBDIR)"
	rm -rf "$(STAGE)" build/lib build/bdist.*
	$(PYTHON) -m venv --without-pip $(WITH_SYSTEM) "$(STAGE)"
	mkdir -p build && pip=$$(mktemp -d "$(CURDIR)/build/pip.XXXXXX") && trap 'rm -rf "$$pip"' EXIT && $(PYTHON) -m venv "$$pip" && \
	  "$$pip/bin/pip" install --quiet $(PIP_SOURCE) 'pip>=23' && \
	  "$$pip/bin/pip" --python "$(STAGE)/bin/python" install --quiet --no-compile --use-pep517 $(PIP_SOURCE) $(PIP_OPTIONS) '.$(if $(EXTRAS),[$(EXTRAS)])'
	sed -i -e 's|^CONFIG: Final = .*|CONFIG: Final = Path("$(SYSCONFDIR)/sonar")  # the administrator'"'"'s|' \
	  -e 's|^VENDOR: Final = .*|VENDOR: Final = Path("$(LIBDIR)")  # the package'"'"'s|' "$(STAGE)"/lib/python3*/site-packages/sonar/paths.py
	sed -i '/^command = /d' "$(STAGE)/pyvenv.cfg"
	find "$(STAGE)/bin" -mindepth 1 ! -name 'python*' -delete
	install -m 0755 -Dt "$(STAGE)/libexec" libexec/*
	"$(STAGE)/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$(STAGE)" -p "$(LIBDIR)/venv" "$(STAGE)/lib" >/dev/null
	cd "$(DESTDIR)$(LIBDIR)" && release="venv-$(VERSION)-$$(cd venv.new && find . -type f ! -name '*.pyc' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum | cut -c1-12)" && \
	  sed -i "1s|.*|\#!$(LIBDIR)/$$release/bin/python -I|" venv.new/libexec/* && \
	  { [ ! -e "$$release" ] || mv -T "$$release" "$$release.replaced"; } && mv -T venv.new "$$release" && rm -rf "$$release.replaced" && \
	  { [ -L venv ] || rm -rf venv; } && ln -sfn "$$release" venv.new && mv -T venv.new venv
	install -m 0755 packaging/prune "$(DESTDIR)$(LIBDIR)/prune"

# Each file gets its place by a rename too (install(1) removes and makes anew, so a program that runs keeps its own).
# Configuration is only put where there is none; a changed default goes beside it as NAME.new.
install-files:
	install -d "$(DESTDIR)$(LIBEXECDIR)" "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(SYSUSERSDIR)" \
	  "$(DESTDIR)$(TMPFILESDIR)" "$(DESTDIR)$(PRESETDIR)" "$(DESTDIR)$(CATALOGDIR)" "$(DESTDIR)$(SYSCONFDIR)/sonar"
	[ -L "$(DESTDIR)$(LIBEXECDIR)/sonar" ] || rm -rf "$(DESTDIR)$(LIBEXECDIR)/sonar"
	ln -sfn "$$(realpath -sm --relative-to="$(LIBEXECDIR)" "$(LIBDIR)/venv/libexec")" "$(DESTDIR)$(LIBEXECDIR)/sonar"
	for f in $(COMMANDS); do ln -sfn "$(LIBEXECDIR)/sonar/$$f" "$(DESTDIR)$(BINDIR)/$$f"; done
	for f in $(UNITS) $(DROP_INS); do to="$(DESTDIR)$(UNITDIR)/$${f#units/}"; install -d "$${to%/*}"; \
	  sed -e 's|/usr/libexec/sonar/|$(LIBEXECDIR)/sonar/|g' -e 's|/etc/sonar|$(SYSCONFDIR)/sonar|g' "$$f" >"$$to.new"; chmod 0644 "$$to.new"; mv "$$to.new" "$$to"; done
	install -m 0644 units/sonar-server.sysusers "$(DESTDIR)$(SYSUSERSDIR)/sonar-server.conf"
	sed 's|/etc/sonar|$(SYSCONFDIR)/sonar|g' units/sonar-server.tmpfiles >"$(DESTDIR)$(TMPFILESDIR)/sonar-server.conf"
	install -m 0644 units/sonar-server.preset "$(DESTDIR)$(PRESETDIR)/50-sonar-server.preset"
	install -m 0644 units/sonar-server.catalog "$(DESTDIR)$(CATALOGDIR)/sonar-server.catalog"
	install -d "$(DESTDIR)$(PREFIX)/share/sonar-server" && rm -rf "$(DESTDIR)$(PREFIX)/share/sonar-server/examples" && \
	  cp -rT --no-preserve=mode etc "$(DESTDIR)$(PREFIX)/share/sonar-server/examples"
	conf="$(DESTDIR)$(SYSCONFDIR)/sonar/sonar.conf"; if ! [ -e "$$conf" ]; then install -m 0644 etc/sonar.conf "$$conf"; \
	  elif cmp -s etc/sonar.conf "$$conf"; then rm -f "$$conf.new"; else install -m 0644 etc/sonar.conf "$$conf.new"; fi
	for f in $(PAGES); do install -D -m 0644 "$$f" "$(DESTDIR)$(MANDIR)/man$${f##*.}/$${f##*/}"; done
	for f in $(COMMANDS); do \
	  install -D -m 0644 completions/commands.bash "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$f"; \
	  install -D -m 0644 completions/commands.fish "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$f.fish"; done
	install -D -m 0644 completions/commands.zsh "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_sonarctl"

wheelhouse: all  ## wheels of everything in build/wheelhouse; there: make install WHEELHOUSE=DIR, without a network
	rm -rf build/wheelhouse && mkdir -p build/wheelhouse
	.venv/bin/pip wheel --quiet --use-pep517 --wheel-dir build/wheelhouse '.$(if $(EXTRAS),[$(EXTRAS)])' 'pip>=23' 'setuptools>=65' wheel
	rm -f build/wheelhouse/sonar_server-*.whl
	@echo "build/wheelhouse has $$(ls build/wheelhouse | wc -l) wheels for $$($(VENV_PYTHON) -V) on $$(uname -m). Take this directory and the wheels there."

# ---- packages ------------------------------------------------------------------------------------------------------

VERSION = $(shell $(PYTHON) -c 'import sonar; print(sonar.__version__)')
DEB_ARCH = $(shell dpkg --print-architecture)
DEB_TREE ?= build/deb
DEB_FILE ?= build/sonar-server_$(VERSION)_$(DEB_ARCH).deb
ENABLED := $(shell sed -n 's/^enable //p' units/sonar-server.preset)
PYTHON_MINOR = $(shell $(PYTHON) -c 'import sys; print(sys.version_info.minor)')

# The environment goes into the package as it is: Debian has no package of pyarrow. dpkg removes files of an old version
# before services are restarted, so nothing runs from what it owns: postinst makes hard links of it (`package`) to run
# from. DEB_TREE may name a tree that `make install PREFIX=/usr DESTDIR=…` has made already.
deb:  ## a Debian package in build/, of what `make install PREFIX=/usr` makes
	[ -d "$(DEB_TREE)/usr" ] && [ "$(DEB_TREE)" != build/deb ] || { rm -rf build/deb; $(MAKE) -s install PREFIX=/usr DESTDIR="$(CURDIR)/build/deb"; }
	$(MAKE) -s deb-only

deb-only: DEB_LIBRARY = $(DEB_TREE)/usr/lib/sonar-server
deb-only:
	rm -rf "$(DEB_TREE)/DEBIAN" && install -d -m 0755 "$(DEB_TREE)/DEBIAN" build
	! [ -L "$(DEB_LIBRARY)/venv" ] || { mv -T "$$(realpath "$(DEB_LIBRARY)/venv")" "$(DEB_LIBRARY)/package"; rm "$(DEB_LIBRARY)/venv"; }
	sed -e 's|@VERSION@|$(VERSION)|; s|@ARCH@|$(DEB_ARCH)|; s|@PYTHON@|3.$(PYTHON_MINOR)|' \
	  -e "s|@PYTHON_NEXT@|3.$$(( $(PYTHON_MINOR) + 1 ))|; s|@SIZE@|$$(du -sk "$(DEB_TREE)" | cut -f1)|" \
	  packaging/deb/control.in >"$(DEB_TREE)/DEBIAN/control"
	release=$$(sed -n '1s|.*/\(venv-[^/]*\)/.*|\1|p' "$(DEB_LIBRARY)/package/libexec/sonarctl") && \
	  for f in postinst prerm postrm; do sed "s|@UNITS@|$(ENABLED)|; s|@RESTARTED@|$(RESTARTED)|; s|@RELEASE@|$$release|" packaging/deb/$$f >"$(DEB_TREE)/DEBIAN/$$f"; chmod 0755 "$(DEB_TREE)/DEBIAN/$$f"; done
	echo /etc/sonar/sonar.conf >"$(DEB_TREE)/DEBIAN/conffiles"
	dpkg-deb --root-owner-group $(or $(DEB_COMPRESSION),-Zzstd -z3) --build "$(DEB_TREE)" "$(DEB_FILE)" >/dev/null
	@echo "$(DEB_FILE)"

rpm:  ## an RPM package in build/rpm, on EL 9
	rm -rf build/rpm && mkdir -p build/rpm/SOURCES
	git archive --prefix=sonar-server-$(VERSION)/ -o build/rpm/SOURCES/sonar-server-$(VERSION).tar.gz HEAD
	rpmbuild --define "_topdir $(CURDIR)/build/rpm" --define "version_ $(VERSION)" -bb packaging/rpm/sonar-server.spec

uninstall:  ## remove what install made; data and configuration stay
	@! [ -z "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || systemctl list-units --all --plain --no-legend 'sonar-cluster@*.target' | cut -d' ' -f1 | xargs -r systemctl disable --now 2>/dev/null || true
	@! [ -z "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || systemctl disable --now $(patsubst units/%,%,$(filter-out %@.service %@.timer %@.target %.slice,$(UNITS))) 2>/dev/null || true
	rm -rf "$(DESTDIR)$(LIBDIR)" "$(DESTDIR)$(LIBEXECDIR)/sonar" "$(DESTDIR)$(PREFIX)/share/sonar-server"
	for f in $(COMMANDS); do rm -f "$(DESTDIR)$(BINDIR)/$$f" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$f" \
	  "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$f.fish"; done
	rm -f "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_sonarctl"
	for f in $(UNITS) $(DROP_INS); do rm -f "$(DESTDIR)$(UNITDIR)/$${f#units/}"; done
	for f in $(sort $(dir $(DROP_INS))); do ! [ -d "$(DESTDIR)$(UNITDIR)/$${f#units/}" ] || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(UNITDIR)/$${f#units/}"; done
	rm -f "$(DESTDIR)$(SYSUSERSDIR)/sonar-server.conf" "$(DESTDIR)$(TMPFILESDIR)/sonar-server.conf" \
	  "$(DESTDIR)$(PRESETDIR)/50-sonar-server.preset" "$(DESTDIR)$(CATALOGDIR)/sonar-server.catalog"
	for f in $(PAGES); do rm -f "$(DESTDIR)$(MANDIR)/man$${f##*.}/$${f##*/}"; done
	@echo "Left in place: $(DESTDIR)$(SYSCONFDIR)/sonar, $(DESTDIR)/var/lib/sonar-server, the user sonar-server"
