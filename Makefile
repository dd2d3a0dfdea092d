# SPDX-License-Identifier: Apache-2.0
#
# The front door. `make help` lists what there is. GNU make 4.3, Debian 12, Swift 6.3.

PREFIX   ?= /usr/local
DESTDIR  ?=
UDEVDIR  ?= /lib/udev/rules.d
BINDIR   := $(PREFIX)/bin
MANDIR   := $(PREFIX)/share/man
SWIFT    ?= swift

RELEASE_SCRATCH := .build-release
RELEASE         := $(RELEASE_SCRATCH)/release
HELPER          := kmod-shim/build/vusb-attach
PROGRAMS        := vusbd vusbctl

# Root's own shell needs no sudo, and a container has none.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Building; the tests' programs and C clients, and the module; real mounts and real kernels; the checks. Kernels and
# their headers aren't among them: Tests/VM/kernel.sh unpacks those into out/vm/cache.
PACKAGES := libfuse3-dev libusb-1.0-0-dev libusbredirparser-dev pkg-config \
	gcc libc6-dev musl-tools libssl-dev binutils dpkg-dev git make perl sparse libelf1 libssl3 \
	fuse3 udev curl jq socat procps python3 python3-venv tcpdump tshark iproute2 \
	qemu-system-x86 qemu-system-common qemu-utils qemu-guest-agent busybox-static cpio kmod xz-utils usbutils usbip usbredirect \
	dosfstools mtools e2fsprogs \
	mandoc

.DEFAULT_GOAL := help
.PHONY: help deps build release demo test bench check fuzz install uninstall clean

help: ## List these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

deps: ## Install the Debian packages that building and testing need
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package; \
	done); \
	if [ -n "$$missing" ] || ! apt-cache show linux-image-amd64 >/dev/null 2>&1; then \
		$(SUDO) apt-get -qq update || exit 1; \
	fi; \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	fi

build: deps ## Build for development, into .build
	$(SWIFT) build

release: deps ## Build the two programs that run without Swift, into .build-release/release, and the helper for guests
	$(SWIFT) build -c release --static-swift-stdlib --scratch-path $(RELEASE_SCRATCH)
	$(MAKE) -s -C kmod-shim attach

demo: release ## Show it at work with emulated devices, in under 15 seconds once built
	@VUSBD=$(CURDIR)/$(RELEASE)/vusbd VUSBCTL=$(CURDIR)/$(RELEASE)/vusbctl examples/demo.sh

test: deps ## Run every test: checks, units, file system, control, fuzzers, virtual machines (SUITES="…" for some)
	@Tests/run.sh $(SUITES)

bench: release ## Measure throughput, latency, processor time and memory against file, USB/IP, QEMU and native use
	@VUSBD=$(CURDIR)/$(RELEASE)/vusbd VUSBCTL=$(CURDIR)/$(RELEASE)/vusbctl Tests/Benchmarks/run.sh

check: deps ## Check format, shell syntax, licences, imports and manual pages
	@Tests/check.sh

fuzz: deps ## Fuzz the parsers of outside bytes (SECONDS_EACH=60)
	@Tests/Fuzz/run.sh $(or $(SECONDS_EACH),60)

# No dependency on `release`: `sudo make install` must not build as root.
install: ## Install programs, udev rules, manual pages and completions (PREFIX, DESTDIR)
	@for program in $(PROGRAMS); do \
		[ -x $(RELEASE)/$$program ] || { echo "$(RELEASE)/$$program not found; run make release first" >&2; exit 1; }; \
	done
	@[ -x $(HELPER) ] || { echo "$(HELPER) not found; run make release first" >&2; exit 1; }
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(UDEVDIR)
	install -m 755 -s $(addprefix $(RELEASE)/,$(PROGRAMS)) $(DESTDIR)$(BINDIR)
	install -D -m 755 $(HELPER) $(DESTDIR)$(PREFIX)/lib/vusb/vusb-attach
	install -m 644 udev-rules/*.rules $(DESTDIR)$(UDEVDIR)
	for page in packaging/man/*.[1-8]; do \
		install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	for program in $(PROGRAMS); do \
		$(RELEASE)/$$program --generate-completion-script bash \
			>$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program && \
		$(RELEASE)/$$program --generate-completion-script zsh \
			>$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program && \
		$(RELEASE)/$$program --generate-completion-script fish \
			>$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish || exit 1; \
	done
	@# The udev rules and the socket's permissions speak of this group; a package makes it in its own way.
	@[ -n "$(DESTDIR)" ] || getent group vusb >/dev/null || groupadd --system vusb

uninstall: ## Remove what install put there
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/lib/vusb/vusb-attach \
		$(patsubst udev-rules/%,$(DESTDIR)$(UDEVDIR)/%,$(wildcard udev-rules/*.rules)) \
		$(foreach page,$(wildcard packaging/man/*.[1-8]),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))) \
		$(addprefix $(DESTDIR)$(PREFIX)/share/bash-completion/completions/,$(PROGRAMS)) \
		$(addprefix $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_,$(PROGRAMS)) \
		$(addsuffix .fish,$(addprefix $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/,$(PROGRAMS)))

clean: ## Remove what building and testing made
	rm -rf .build .build-release .build-tsan .build-fuzz out
