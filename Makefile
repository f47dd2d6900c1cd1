# The index of everything: `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr
DESTDIR ?=

CARGO ?= cargo
DIST := $(CURDIR)/target/dist
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
# What plugins are built for: an exec of theirs is as dear as an attach, and musl starts at once where
# glibc first asks the processor what it is, question by question (0.8 ms in a virtual machine).
MUSL := $(HOST:-gnu=-musl)
PLUGINS := netd-bridge netd-host netd-macvlan netd-none netd-overlay

comma := ,
space := $() $()

# What tests and benchmarks start.
export NETD_BIN := $(DIST)

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | \
		while IFS=$$'\t' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

.PHONY: build
build: deps-build ## Build everything into target/dist
	@echo "==> netd and netctl"
	@$(CARGO) build --release -p netd -p netctl -p netd-relay
	@echo "==> the plugins, statically linked: $(PLUGINS)"
	@target=$(MUSL); \
	if [[ ! -d "$$(rustc --print sysroot)/lib/rustlib/$$target" ]] && \
		! rustup target add "$$target" 2>/dev/null; then \
		echo "no Rust library for $$target: plugins will start slower"; target=$(HOST); fi; \
	RUSTFLAGS="-C target-feature=+crt-static" \
		$(CARGO) build --profile plugin --target "$$target" $(PLUGINS:%=-p %); \
	mkdir -p $(DIST); \
	for plugin in $(PLUGINS); do \
		install -C -m 0755 "target/$$target/plugin/$$plugin" $(DIST)/; done
	@install -C -m 0755 target/release/netd target/release/netctl target/release/netd-relay $(DIST)/
	@echo "==> built into target/dist:"
	@cd $(DIST) && du -h --apparent-size netd netctl $(PLUGINS)

.PHONY: demo
demo: deps build ## Show what netd does, on this machine and without a trace of it after
	@echo "==> the demo"
	@PATH="$(DIST):$$PATH" examples/demo.sh

.PHONY: test
test: deps-test build ## Run all tests (as root)
	@echo "==> the tests"
	@$(CARGO) nextest run --workspace --features cnm/schema
	@$(CARGO) test --doc --workspace

.PHONY: test-runtimes
test-runtimes: deps-runtimes build ## Run the tests on newer runtimes than this distribution's
	@echo "==> newer runtimes"
	@$(CARGO) nextest run -p netd-tests --run-ignored only -E 'test(/^runtimes::/)'

.PHONY: faults
faults: deps-test build ## Run clusters through ten minutes of faults (SECONDS_EACH=600 SEED=…)
	@echo "==> faults, for $${SECONDS_EACH:-600} s"
	@NETD_FAULTS_SECONDS=$${SECONDS_EACH:-600} NETD_FAULTS_CUT=60 \
		$(if $(SEED),NETD_FAULTS_SEED=$(SEED)) \
		$(CARGO) nextest run -p netd-tests --profile faults -E 'test(/^faults::/)'

.PHONY: bench
bench: deps-test build ## Measure, beside the bare kernel
	@echo "==> the benchmarks"
	@$(CARGO) bench -p netd-tests

.PHONY: fuzz
fuzz: ## Let the resolver read what nobody sends, for 5 minutes a target (SECONDS_EACH=300)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "==> cargo-fuzz is missing: installing it"; \
		$(CARGO) install --locked cargo-fuzz; }
	@cd dns; for target in query framing; do \
		echo "==> fuzzing $$target, for $${SECONDS_EACH:-300} s"; \
		$(CARGO) +nightly fuzz run "$$target" -- -max_total_time=$${SECONDS_EACH:-300}; done

.PHONY: fmt
fmt: ## Format the code
	@$(CARGO) fmt --all

.PHONY: lint
lint: deps-build ## Check format and lints
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --features cnm/schema -- -D warnings

.PHONY: deny
deny: ## Check licences, doubles and sources of the dependencies
	@$(CARGO) deny --version >/dev/null 2>&1 || { \
		echo "==> cargo-deny is missing: installing it"; \
		$(CARGO) install --locked cargo-deny; }
	@$(CARGO) deny check licenses bans sources

# Installs those of the packages $(1) that are not there.
define packages
	@command -v dpkg-query >/dev/null || { \
		echo "not a Debian system: the programs of these packages have to be there: $(1)"; exit 0; }; \
	missing=(); \
	for package in $(1); do \
		[[ "$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null)" == installed ]] || \
			missing+=("$$package"); \
	done; \
	if (( $${#missing[@]} == 0 )); then exit 0; fi; \
	if (( EUID != 0 )); then \
		echo "these packages are missing, and installing them needs root: $${missing[*]}" >&2; exit 1; \
	fi; \
	echo "==> installing $${missing[*]}"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq; \
	apt-get install -qq -y --no-install-recommends "$${missing[@]}"
endef

# Unpacks the packages $(1), and what they need and is not there, into target/debian: servers that
# installing would start.
define unpacked
	@command -v apt-get >/dev/null || exit 0; \
	into=$(CURDIR)/target/debian; \
	for package in $(1); do [[ -e "$$into/$$package.unpacked" ]] || missing+=("$$package"); done; \
	if [[ -z "$${missing:-}" ]]; then exit 0; fi; \
	echo "==> unpacking $${missing[*]} into target/debian"; \
	mkdir -p "$$into/archives/partial"; \
	apt-get install -qq -y --no-install-recommends --reinstall --download-only \
		-o Dir::Cache::archives="$$into/archives" "$${missing[@]}"; \
	for archive in "$$into"/archives/*.deb; do dpkg -x "$$archive" "$$into"; done; \
	for package in $(1); do touch "$$into/$$package.unpacked"; done
endef

.PHONY: deps-build
deps-build: ## Install the packages that building needs besides Rust
	$(call packages,protobuf-compiler libprotobuf-dev)

.PHONY: deps
deps: ## Install the packages that netd and its demo use
	$(call packages,nftables iproute2 iputils-ping)

.PHONY: deps-test
deps-test: deps ## Install what the tests use besides
	$(call packages,netcat-openbsd dnsutils curl tcpdump conntrack containernetworking-plugins \
		netavark procps python3 socat podman containerd crun busybox-static etcd-server etcd-client openssl \
		dnsperf knot-dnsutils ldnsutils dbus python3-gi python3-dbus)
	$(call unpacked,unbound nsd aardvark-dns docker.io ufw firewalld)
	@$(CARGO) nextest --version >/dev/null 2>&1 || { \
		echo "==> cargo-nextest is missing: installing it"; \
		$(CARGO) install --locked cargo-nextest; }

# Debian's next releases: their runtimes are newer than this one's.
NEWER := trixie forky
NEWER_HAS := podman netavark aardvark-dns crun docker.io docker-cli containerd runc iptables \
	nftables iproute2 iputils-ping busybox-static curl procps
RUNTIMES := $(CURDIR)/target/runtimes

.PHONY: deps-runtimes
deps-runtimes: deps-test ## Lay out newer runtimes below target, once
	$(call packages,debootstrap)
	@# debootstrap may be older than a release: all of them are laid out alike.
	@set -e; mkdir -p "$(RUNTIMES)"; scripts="$(RUNTIMES)/debootstrap"; \
	rm -rf "$$scripts"; cp -r /usr/share/debootstrap "$$scripts"; \
	for release in $(NEWER); do \
		root="$(RUNTIMES)/$$release"; \
		if [[ "$$(cat "$$root.whole" 2>/dev/null)" == "$(NEWER_HAS)" ]]; then continue; fi; \
		echo "==> laying out $$release in target/runtimes, which takes some minutes"; \
		rm -rf "$$root" "$$root.whole"; mkdir -p "$$root"; \
		[[ -e "$$scripts/scripts/$$release" ]] || ln -s sid "$$scripts/scripts/$$release"; \
		DEBOOTSTRAP_DIR="$$scripts" unshare --mount --propagation private debootstrap \
			--variant=minbase --include=$(subst $(space),$(comma),$(NEWER_HAS)) \
			"$$release" "$$root" >"$$root.log" 2>&1 || { tail "$$root.log"; exit 1; }; \
		echo "$(NEWER_HAS)" >"$$root.whole"; \
	done

BINDIR := $(DESTDIR)$(PREFIX)/bin
SBINDIR := $(DESTDIR)$(PREFIX)/sbin
LIBEXECDIR := $(DESTDIR)$(PREFIX)/libexec/netd
UNITDIR := $(DESTDIR)$(PREFIX)/lib/systemd/system
SYSUSERSDIR := $(DESTDIR)$(PREFIX)/lib/sysusers.d
SHAREDIR := $(DESTDIR)$(PREFIX)/share
MANDIR := $(SHAREDIR)/man/man1
BASHDIR := $(SHAREDIR)/bash-completion/completions
ZSHDIR := $(SHAREDIR)/zsh/vendor-completions
FISHDIR := $(SHAREDIR)/fish/vendor_completions.d

.PHONY: install
install: build ## Install to DESTDIR and PREFIX (/usr)
	@echo "==> installing to $(DESTDIR)$(PREFIX)"
	@install -d $(BINDIR) $(SBINDIR) $(LIBEXECDIR) $(UNITDIR) $(SYSUSERSDIR) $(MANDIR) \
		$(BASHDIR) $(ZSHDIR) $(FISHDIR)
	@install -m 0755 $(DIST)/netctl $(BINDIR)/
	@install -m 0755 $(DIST)/netd $(SBINDIR)/
	@install -m 0755 $(PLUGINS:%=$(DIST)/%) $(DIST)/netd-relay $(LIBEXECDIR)/
	@install -m 0644 netd/systemd/netd.socket $(UNITDIR)/
	@sed 's|/usr/sbin|$(PREFIX)/sbin|' netd/systemd/netd.service >$(UNITDIR)/netd.service
	@install -m 0644 netd/systemd/netd.sysusers $(SYSUSERSDIR)/netd.conf
	@$(DIST)/netctl man --out $(MANDIR)
	@$(DIST)/netctl completions bash >$(BASHDIR)/netctl
	@$(DIST)/netctl completions zsh >$(ZSHDIR)/_netctl
	@$(DIST)/netctl completions fish >$(FISHDIR)/netctl.fish
	@if [[ -z "$(DESTDIR)" ]] && ! getent group netd >/dev/null; then groupadd --system netd; fi
	@if [[ -z "$(DESTDIR)" && -d /run/systemd/system ]]; then \
		systemctl daemon-reload; \
		echo "==> start it with: systemctl enable --now netd"; fi

.PHONY: uninstall
uninstall: ## Remove what install put there; state and networks stay
	@if [[ -z "$(DESTDIR)" && -d /run/systemd/system ]]; then \
		systemctl disable --now netd.service netd.socket || true; fi
	@rm -f $(BINDIR)/netctl $(SBINDIR)/netd $(PLUGINS:%=$(LIBEXECDIR)/%) $(LIBEXECDIR)/netd-relay
	@rm -f $(UNITDIR)/netd.socket $(UNITDIR)/netd.service $(SYSUSERSDIR)/netd.conf
	@rm -f $(MANDIR)/netctl.1 $(MANDIR)/netctl-*.1
	@rm -f $(BASHDIR)/netctl $(ZSHDIR)/_netctl $(FISHDIR)/netctl.fish
	@rmdir --ignore-fail-on-non-empty $(LIBEXECDIR) 2>/dev/null || true
	@# What a netd that was killed may have left there, where it was told to (dns_hook).
	@if [[ -z "$(DESTDIR)" ]] && grep -qs '^# netd: the names' /etc/resolv.conf; then \
		sed -i '/^# netd: the names/,/^# netd: to here/d' /etc/resolv.conf; fi
