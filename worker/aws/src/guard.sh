# What every question of Lamplighter's to a host begins with. The lines above set: token.
#
# Once: AWS may deliver a question twice. Who makes the directory does the work; who finds it prints the
# result that the first one left, and never does the work again. The directory is on the disk, because the second
# delivery may come after a reboot: /run is lost with it.
set -u
umask 077
base=${LAMPLIGHTER_RUN_DIR:-/var/lib/lamplighter}

if ! mkdir -p "$base" 2>/dev/null || ! [ -w "$base" ]; then
    base=${TMPDIR:-/tmp}/lamplighter-$(id -u)
    mkdir -p -m 700 "$base" 2>/dev/null
    # A directory that somebody else put there in advance could hold a result of their making.
    if ! [ -d "$base" ] || [ -L "$base" ] || ! [ -O "$base" ]; then
        echo "no directory of our own to note the result in: $base" >&2
        exit 4
    fi
fi
guard=$base/$token

# Succeeds for whoever is to do the work. Who comes later waits for up to $1 seconds for the first one's
# result, and finds it in $result.
is_first() {
    if mkdir "$guard" 2>/dev/null; then
        # What is older than two days can be delivered no more.
        find "$base"/* -prune -type d -mtime +1 -exec rm -rf {} + 2>/dev/null
        return 0
    fi
    if ! [ -d "$guard" ]; then
        echo "cannot make $guard" >&2
        exit 4
    fi
    left=$1
    while ! [ -f "$guard/result" ] && [ "$left" -gt 0 ]; do
        sleep 1
        left=$((left - 1))
    done
    if ! [ -f "$guard/result" ]; then
        echo "the first delivery of this question left no result" >&2
        exit 4
    fi
    IFS= read -r result <"$guard/result"
    return 1
}

# The name appears with its content or not at all.
leave() {
    printf '%s\n' "$1" >"$guard/result.new" && mv "$guard/result.new" "$guard/result"
}

