# Lamplighter asks a host for its unit. The lines above set: token, unit, settle_seconds,
# activating_seconds, and perhaps check. Prints exactly one word, systemd's own; exits 0 where it is
# `active` (or `enabled`) and 3 where it is not, as systemctl does.
#
# Once: AWS may deliver this script twice. Who makes the directory does the work; who finds it prints
# the result that the first one left, and never does the work again.
set -u
umask 077
check=${check:-is-active}
proc_uptime=${LAMPLIGHTER_UPTIME_FILE:-/proc/uptime}
base=${LAMPLIGHTER_RUN_DIR:-/run/lamplighter}

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

finish() {
    printf '%s\n' "$1"
    case $1 in
        active | enabled | enabled-runtime | static | alias | indirect | generated) exit 0 ;;
        *) exit 3 ;;
    esac
}

# Whole seconds since boot; a host that does not tell counts as settled.
up_seconds() {
    up=$settle_seconds
    if [ -r "$proc_uptime" ]; then
        read -r up _ <"$proc_uptime"
    fi
    printf '%s\n' "${up%%.*}"
}

if ! mkdir "$guard" 2>/dev/null; then
    if ! [ -d "$guard" ]; then
        echo "cannot make $guard" >&2
        exit 4
    fi
    left=$((settle_seconds + activating_seconds + 20))
    while ! [ -f "$guard/result" ] && [ "$left" -gt 0 ]; do
        sleep 1
        left=$((left - 1))
    done
    if ! [ -f "$guard/result" ]; then
        echo "the first delivery of this question left no result" >&2
        exit 4
    fi
    read -r state <"$guard/result"
    finish "$state"
fi

# What is older than two days can be delivered no more.
find "$base"/* -prune -type d -mtime +1 -exec rm -rf {} + 2>/dev/null

while [ "$(up_seconds)" -lt "$settle_seconds" ]; do
    sleep 1
done

waited=0
while :; do
    state=$(systemctl "$check" "$unit" 2>/dev/null | head -n 1)
    [ -n "$state" ] || state=unknown
    [ "$state" = activating ] && [ "$waited" -lt "$activating_seconds" ] || break
    sleep 1
    waited=$((waited + 1))
done

# The name appears with its content or not at all.
printf '%s\n' "$state" >"$guard/result.new" && mv "$guard/result.new" "$guard/result"
finish "$state"
