# Lamplighter asks a host whether it is idle, by the fleet's own script. The lines above set: script_base64,
# timeout_seconds. Prints exactly one line, `lamplighter-exit CODE FIRST-LINE`, and exits 0: a script that
# fails is an answer too.
finish() {
    printf '%s\n' "$1"
    exit 0
}

for tool in base64 timeout; do
    if ! command -v "$tool" >/dev/null; then
        echo "this host has no $tool" >&2
        exit 4
    fi
done

is_first $((timeout_seconds + 25)) || finish "$result"

if ! printf '%s' "$script_base64" | base64 -d >"$guard/script"; then
    echo "the script did not arrive whole" >&2
    exit 4
fi

# The script is a process of its own: it shares no variable with this one, reads nothing, and what it
# prints goes to a file, so that it cannot pass for our line. It may print without end: the beginning is
# kept (byte by byte, since dd holds nothing back), the rest drained. What it leaves running holds the pipe
# open, but not for ever.
{
    (umask 022 && exec timeout -k 5 "$timeout_seconds" sh "$guard/script" </dev/null 2>/dev/null)
    echo "$?" >"$guard/code"
} | timeout $((timeout_seconds + 10)) \
    sh -c 'dd bs=1 count=4096 of="$0" 2>/dev/null && exec cat >/dev/null' "$guard/output"

read -r code <"$guard/code"
line=$(head -n 1 "$guard/output" | LC_ALL=C tr -cd '\040-\176' | cut -c 1-200)
case $code in
    124 | 137) [ -n "$line" ] || line="ended after $timeout_seconds s" ;;
esac
rm -f "$guard/script" "$guard/output" "$guard/code"

leave "lamplighter-exit $code $line"
finish "lamplighter-exit $code $line"
