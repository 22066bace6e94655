# Lamplighter asks a host for its unit. The lines above set: unit, settle_seconds, activating_seconds, and
# perhaps check. Prints exactly one word, systemd's own; exits 0 where it is `active` (or `enabled`) and 3
# where it is not, as systemctl does.
check=${check:-is-active}
proc_uptime=${LAMPLIGHTER_UPTIME_FILE:-/proc/uptime}

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

is_first $((settle_seconds + activating_seconds + 20)) || finish "$result"

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

leave "$state"
finish "$state"
