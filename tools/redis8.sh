#!/bin/sh
# Print a command that starts a Redis server of version 8 or newer, which has vector sets; get one where there is none.
#
#   $(tools/redis8.sh) --port 0 --unixsocket /tmp/redis.sock
#
# The one on the PATH is taken if it is new enough. Otherwise the packages of Debian 13 and all libraries they need
# are fetched from this machine's own Debian mirror with apt, signatures checked, and unpacked under
# $HASTEN_CACHE/redis8 (else $XDG_CACHE_HOME/hasten, else ~/.cache/hasten). Nothing is installed, root is not needed.
set -eu

SUITE=trixie

fail() { echo "redis8: $*" >&2; exit 1; }

version() { "$@" --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\)\..*/\1/p'; }

new_enough() { major=$(version "$@") && [ -n "$major" ] && [ "$major" -ge 8 ]; }

# The command for what was unpacked into $1: its own loader with its own libraries. The server and redis-check-rdb are
# one program, which looks at the name it was called by; the latter is in redis-tools, which needs no system user.
unpacked() {
    loader=$(find "$1/usr/lib" "$1/usr/lib64" -name 'ld-linux-*.so.*' 2>/dev/null | head -n 1)
    libraries=$(find "$1/usr/lib" -maxdepth 1 -type d -name '*-linux-gnu*' | head -n 1)
    printf '%s --library-path %s --argv0 redis-server %s\n' "$loader" "$libraries" "$1/usr/bin/redis-check-rdb"
}

# The first Debian mirror that apt is set up with; both of its file formats.
mirror() {
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        sed -n -e 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' -e 's/^URIs: *\([^ ]*\).*/\1/p' "$file"
    done | grep '/debian/\{0,1\}$' | head -n 1
}

if new_enough redis-server; then
    command -v redis-server
    exit
fi

home=${HASTEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hasten}/redis8
case $home in *[[:space:]]*) fail "the folder $home must not have spaces in its name" ;; esac
if [ -d "$home" ]; then
    command=$(unpacked "$home")
    # shellcheck disable=SC2086  # words, not one word
    new_enough $command && { echo "$command"; exit; }
    rm -rf "$home"
fi

command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    fail "no redis-server 8 or newer on the PATH, and no apt to fetch one with"
mirror=$(mirror)
[ -n "$mirror" ] || fail "no redis-server 8 or newer on the PATH, and no Debian mirror in /etc/apt"

mkdir -p "$(dirname "$home")"
work=$(mktemp -d "$home.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/none" "$work/lists/partial" "$work/archives/partial" "$work/debs" "$work/root"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main" >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/none";
Dir::Etc::preferences "$work/none";
Dir::Etc::preferencesparts "$work/none";
Dir::State "$work";
Dir::State::status "$work/status";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
APT::Sandbox::User "";
Acquire::Languages "none";
CONF
export APT_CONFIG="$work/apt.conf"

apt-get -qq update >&2 || fail "the package lists of Debian $SUITE could not be fetched"
needed=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances redis-tools | grep -E '^(redis-tools|lib|zlib)') || fail "Debian $SUITE has no redis-tools"
# shellcheck disable=SC2086  # words, not one word
(cd "$work/debs" && apt-get -qq download $needed >&2) || fail "the packages could not be fetched"
for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/root"
done
# shellcheck disable=SC2046  # words, not one word
new_enough $(unpacked "$work/root") || fail "what was fetched does not start"
# Another run may have been quicker: then its folder is as good.
mv -T "$work/root" "$home" 2>/dev/null || [ -d "$home" ] || fail "$home could not be written"
unpacked "$home"
