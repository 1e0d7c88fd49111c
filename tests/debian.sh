# The servers of a Debian release, for `tests/run --servers RELEASE` on a machine that has others. Their packages are
# unpacked into the target folder and not installed. Each program runs in a mount namespace of its own, in which /usr
# is the unpacked one; process ids, ports and all other folders are the machine's. Sourced after tools.sh.

# What each release has, as far as revwatch's pages name it: tests/repository.rs compares them.
TESTED_bookworm="RabbitMQ 3.10, Redis 7.0, Prometheus 2.42"
TESTED_trixie="RabbitMQ 4.0, Redis 8.0, Valkey 8.1, Prometheus 2.53"
DEBIAN_KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_servers RELEASE: sets $servers to a folder with the release's programs in bin/, and Valkey as
# valkey/redis-server.
debian_servers() {
    local release=$1 tested="TESTED_$1" has
    servers=$(realpath -m "$CARGO_TARGET_DIR/servers/$release")
    can_replace_usr
    [ -e "$servers/complete" ] || unpack_servers "$release"
    wrapper bin/redis-server /usr/bin/redis-server
    wrapper valkey/redis-server /usr/bin/valkey-server
    wrapper bin/rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
    wrapper bin/rabbitmqctl /usr/lib/rabbitmq/bin/rabbitmqctl
    wrapper bin/epmd /usr/bin/epmd
    wrapper bin/prometheus /usr/bin/prometheus
    wrapper bin/promtool /usr/bin/promtool
    echo "in $servers (remove it to get newer packages)"
    has=$(PATH="$servers/bin:$PATH" versions "$servers/root")
    has=${has/, Prometheus/, $(version_of "$servers/valkey/redis-server"), Prometheus}
    [ "$has" = "${!tested}" ] || fail "$release has $has, but the pages and tests/debian.sh say ${!tested}"
    echo "$has"
}

# versions [ROOT]: of the servers in the path, as the pages write them; RabbitMQ's are in ROOT.
versions() {
    printf 'RabbitMQ %s, %s, Prometheus %s\n' "$(rabbitmq_version "${1:-}" | cut -d. -f1,2)" "$(version_of redis-server)" \
        "$(prometheus --version 2>&1 | sed -n 's/^prometheus, version \([0-9]*\.[0-9]*\).*/\1/p')"
}

# version_of PROGRAM: Redis or Valkey.
version_of() {
    "$1" --version | sed -n 's/^\([A-Z][a-z]*\) server v=\([0-9]*\.[0-9]*\).*/\1 \2/p'
}

# How the programs see their own libraries without being installed.
can_replace_usr() {
    [ "$(uname -s)" = Linux ] && [ /lib -ef /usr/lib ] || fail "--servers needs Linux with /lib in /usr"
    case "$servers" in /usr/*) fail "--servers needs a target folder outside of /usr: set CARGO_TARGET_DIR" ;; esac
    namespace=(unshare --mount)
    [ "$(id -u)" -eq 0 ] || namespace+=(--map-root-user)
    "${namespace[@]}" mount --bind /tmp /usr 2>/dev/null ||
        fail "--servers needs mount namespaces: run it as root, or let users make them (this must work: \`unshare" \
            "--mount --map-root-user true\`). In Docker: --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
}

unpack_servers() {
    local release=$1 log="$servers/apt.log" state="$servers/apt" archive options
    { command -v apt-get && command -v dpkg-deb; } >/dev/null || fail "--servers needs the programs of apt and dpkg"
    [ -e "$DEBIAN_KEYS" ] || fail "$DEBIAN_KEYS is missing: apt-get install debian-archive-keyring"
    rm -rf "$servers"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEYS" "$(debian_mirror)" "$release" >"$state/sources.list"
    # As on a machine without any package: all that the servers need is downloaded.
    options=(-o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache"
        -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferencesparts=/dev/null -o Dir::Etc::preferences=/dev/null
        -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any)
    # The last ones are what they use and do not name, as no machine is without it.
    if ! { apt-get "${options[@]}" update &&
        apt-get "${options[@]}" install --download-only -y --no-install-recommends \
            rabbitmq-server redis-server valkey-server prometheus coreutils dash grep libc-bin sed; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        fail "the packages of Debian $release cannot be downloaded: see $log. If a key is missing, install a newer" \
            "debian-archive-keyring"
    fi
    for archive in "$state"/cache/archives/*.deb; do
        dpkg-deb -x "$archive" "$servers/root"
    done
    rm -rf "$state"
    touch "$servers/complete"
}

# The mirror that this machine's apt is set to, if it has packages of Debian.
debian_mirror() {
    local mirror
    # shellcheck disable=SC2016 # apt's own variables
    mirror=$(apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/^Debian //p' | head -n 1)
    echo "${mirror:-http://deb.debian.org/debian}"
}

# wrapper NAME PROGRAM: every step replaces the process, so that its id is the server's.
wrapper() {
    mkdir -p "$(dirname "$servers/$1")"
    cat >"$servers/$1" <<WRAPPER
#!/bin/sh
# Made by $ME: runs a program of the packages in root/.
export PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8
exec ${namespace[*]} sh -c 'mount --bind "\$0" /usr && exec "\$@"' '$servers/root/usr' $2 "\$@"
WRAPPER
    chmod +x "$servers/$1"
}
