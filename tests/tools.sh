# Shared by tests and benchmarks: the programs they require. Sourced by a script that sets its name in $ME.

POLICY=/usr/sbin/policy-rc.d    # Debian asks this file before a package may start its service
our_policy=

fail() {
    printf '%s: %s\n' "$ME" "$*" >&2
    exit 1
}

# need FUNCTION: installs the packages that FUNCTION prints (Debian's names), or asks the user to.
need() {
    local packages
    packages=$("$1")
    if [ -n "$packages" ]; then
        # shellcheck disable=SC2086 # word splitting intended
        install $packages
        packages=$("$1")
        [ -z "$packages" ] || fail "still missing after their installation: $packages"
    fi
    command -v cargo >/dev/null || fail "cargo is missing: install Rust, see https://rustup.rs"
    rustc --version
    local redis
    redis=$(redis-server --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')
    printf 'redis-server %s, rabbitmq-server %s\n' "$redis" "$(rabbitmq_version)"
    [ "${redis%%.*}" -ge 7 ] || fail "redis-server $redis is too old: 7.0 or later is needed"
}

# The missing packages for building, and the servers.
missing_servers() {
    local packages=()
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    command -v redis-server >/dev/null || packages+=(redis-server)
    command -v setpriv >/dev/null || packages+=(util-linux)
    type -P kill >/dev/null || packages+=(procps)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages+=(rabbitmq-server)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
    printf '%s' "${packages[*]}"
}

# rabbitmq_version [ROOT]: of the RabbitMQ in this root.
rabbitmq_version() {
    find "${1:-}/usr/lib/rabbitmq/lib" -maxdepth 1 -name 'rabbitmq_server-*' 2>/dev/null | sed 's/.*rabbitmq_server-//' | sort | tail -n 1
}

install() {
    if ! command -v apt-get >/dev/null; then
        fail "missing, by the names of Debian's packages: $*. Install what your system calls them."
    fi
    local services=()
    for package in "$@"; do
        case "$package" in redis-server | rabbitmq-server | prometheus) services+=("$package") ;; esac
    done
    if [ "$(id -u)" -ne 0 ]; then
        cat >&2 <<MESSAGE
$ME: missing packages: $*
Install them; no service of theirs needs to run:

    sudo apt-get update && sudo apt-get install --no-install-recommends $*
    ${services[*]:+sudo systemctl disable --now ${services[*]}}

Without root, but with Docker, it runs in a container (its files in target/docker belong to root):

    docker run --rm --init -v "\$PWD":/src -w /src -e CARGO_TARGET_DIR=/src/target/docker rust:1-bookworm \\
        sh -c 'rustup component add rustfmt clippy && $ME'
MESSAGE
        exit 1
    fi
    printf 'installing: %s\n' "$*"
    keep_services_from_starting "$@"
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
    allow_services_again
    # Running the tests must not make these services start at boot.
    if [ -d /run/systemd/system ] && [ ${#services[@]} -gt 0 ]; then
        systemctl disable --quiet "${services[@]}" || true
    fi
}

keep_services_from_starting() {
    if [ -e "$POLICY" ]; then
        local answer=0
        "$POLICY" redis-server start >/dev/null 2>&1 || answer=$?
        [ "$answer" -eq 101 ] || fail "$POLICY lets packages start their services: install them yourself: $*"
        return
    fi
    printf '#!/bin/sh\n# Made by %s of revwatch for the time of one installation.\nexit 101\n' "$ME" >"$POLICY"
    our_policy=1
    trap allow_services_again EXIT
    chmod +x "$POLICY"
}

allow_services_again() {
    [ -z "$our_policy" ] || rm -f "$POLICY"
    our_policy=
}
