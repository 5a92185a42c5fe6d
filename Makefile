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
DESTDIR       ?=

# The interpreter of the system, not one in somebody's home: services run as another user. The first that is new enough.
PYTHON ?= $(firstword $(foreach p,/usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11,\
            $(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))) /usr/bin/python3)

# Where `sonalyze` and the like are on PATH; everything else stays in libexec.
COMMANDS := sonalyze naicreport
VENV_PYTHON := .venv/bin/python
INSTALL_VENV := $(DESTDIR)$(LIBDIR)/venv

# ---- targets that are promised -------------------------------------------------------------------------------------

.PHONY: all help demo check lint generate bench install uninstall clean deps deps-check test

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

clean:  ## remove everything that make and the demo have made
	rm -rf .venv build demo-state *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find sonar tests libexec -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the environment -----------------------------------------------------------------------------------------------

# Packages of the system: systemd-python is built from source; the rest is for the tests.
APT_BUILD := python3-venv python3-dev libsystemd-dev pkg-config gcc
APT_CHECK := mandoc systemd dbus iproute2 util-linux curl
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

SCRIPT_LINE := 1s|^.*$$|\#!$(LIBDIR)/venv/bin/python -I|

# A private environment made from the system's interpreter. Of its bin only the interpreter is used, so the tree may be
# staged in DESTDIR and moved; what names the stage is removed. Services cannot write bytecode, so it is made here.
install: deps  ## into PREFIX (/usr/local), honouring DESTDIR; enables and starts nothing
	case "$(PYTHON)" in /root/*|/home/*) echo "PYTHON=$(PYTHON) lies in a home, which services cannot read" >&2; exit 1;; esac
	install -d "$(DESTDIR)$(LIBDIR)" "$(DESTDIR)$(LIBEXECDIR)/sonar" "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(UNITDIR)" \
	  "$(DESTDIR)$(SYSUSERSDIR)" "$(DESTDIR)$(TMPFILESDIR)" "$(DESTDIR)$(PRESETDIR)" "$(DESTDIR)$(SYSCONFDIR)/sonar"
	rm -rf "$(INSTALL_VENV)" build/pip
	$(PYTHON) -m venv --without-pip "$(INSTALL_VENV)"
	$(PYTHON) -m venv build/pip && build/pip/bin/pip install --quiet --upgrade 'pip>=23'
	build/pip/bin/pip --python "$(INSTALL_VENV)/bin/python" install --quiet --no-compile --use-pep517 .
	rm -rf build/pip
	sed -i '/^command = /d' "$(INSTALL_VENV)/pyvenv.cfg"
	find "$(INSTALL_VENV)/bin" -mindepth 1 ! -name 'python*' -delete
	"$(INSTALL_VENV)/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$(DESTDIR)" -p / "$(INSTALL_VENV)/lib" >/dev/null
	for f in libexec/*; do install -m 0755 "$$f" "$(DESTDIR)$(LIBEXECDIR)/sonar/"; \
	  sed -i '$(SCRIPT_LINE)' "$(DESTDIR)$(LIBEXECDIR)/sonar/$${f##*/}"; done
	for f in $(COMMANDS); do ln -sf "$(LIBEXECDIR)/sonar/$$f" "$(DESTDIR)$(BINDIR)/$$f"; done
	for f in units/*.service units/*.socket units/*.target units/*.slice; do \
	  sed 's|/usr/libexec/sonar/|$(LIBEXECDIR)/sonar/|g' "$$f" >"$(DESTDIR)$(UNITDIR)/$${f##*/}"; chmod 0644 "$(DESTDIR)$(UNITDIR)/$${f##*/}"; done
	install -m 0644 units/sonar-server.sysusers "$(DESTDIR)$(SYSUSERSDIR)/sonar-server.conf"
	install -m 0644 units/sonar-server.tmpfiles "$(DESTDIR)$(TMPFILESDIR)/sonar-server.conf"
	install -m 0644 units/sonar-server.preset "$(DESTDIR)$(PRESETDIR)/50-sonar-server.preset"
	install -d "$(DESTDIR)$(PREFIX)/share/sonar-server" && cp -rT etc "$(DESTDIR)$(PREFIX)/share/sonar-server/examples"
	for f in man/*.[0-9]; do install -D -m 0644 "$$f" "$(DESTDIR)$(MANDIR)/man$${f##*.}/$${f##*/}"; done
	@[ -n "$(DESTDIR)" ] || { systemd-sysusers; systemd-tmpfiles --create sonar-server.conf; ! [ -d /run/systemd/system ] || systemctl daemon-reload; \
	  echo "Installed. What comes next is in sonar(7): certificate, passwords, systemctl enable --now sonar.target"; }

uninstall:  ## remove what install made; data and configuration stay
	rm -rf "$(DESTDIR)$(LIBDIR)" "$(DESTDIR)$(LIBEXECDIR)/sonar" "$(DESTDIR)$(PREFIX)/share/sonar-server"
	for f in $(COMMANDS); do rm -f "$(DESTDIR)$(BINDIR)/$$f"; done
	for f in units/*.service units/*.socket units/*.target units/*.slice; do rm -f "$(DESTDIR)$(UNITDIR)/$${f##*/}"; done
	rm -f "$(DESTDIR)$(SYSUSERSDIR)/sonar-server.conf" "$(DESTDIR)$(TMPFILESDIR)/sonar-server.conf" "$(DESTDIR)$(PRESETDIR)/50-sonar-server.preset"
	for f in man/*.[0-9]; do rm -f "$(DESTDIR)$(MANDIR)/man$${f##*.}/$${f##*/}"; done
	@echo "Left in place: $(DESTDIR)$(SYSCONFDIR)/sonar, $(DESTDIR)/var/lib/sonar-server, the user sonar-server"
