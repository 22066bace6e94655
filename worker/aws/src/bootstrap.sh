# Lamplighter makes a fresh host ready, once, by a named script. The lines above set: bootstrap (its name),
# timeout_seconds, environment_base64 (lines of NAME=BASE64), script_base64, and check_base64 (may be empty).
# Prints exactly one line, `lamplighter-exit CODE LAST-LINE`, and exits 0: a script that fails is an answer
# too. A time that is over is 124; a check that never succeeded has its own code and `check: ` before its line.
#
# A parameter's value is never shell text, never an argument and never in a file: it goes from base64 into
# the environment of the script and of the check, and nowhere else.
finish() {
    printf '%s\n' "$1"
    exit 0
}

broken() {
    echo "bootstrap $bootstrap: $1" >&2
    exit 4
}

for tool in base64 timeout mkfifo; do
    command -v "$tool" >/dev/null || broken "this host has no $tool"
done

# No value is expanded unquoted, but a name or a path of base64 must not become a pattern either.
set -f
assignments=$(printf '%s' "$environment_base64" | base64 -d) || broken 'the environment did not arrive whole'
for assignment in $assignments; do
    # Letter by letter: what A-Z means depends on the host's language.
    case ${assignment%%=*} in
        '' | [0123456789_]* | *[!ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_]*) broken 'no name of a variable' ;;
    esac
    case $assignment in *=*) ;; *) broken 'a variable without a value' ;; esac
    printf '%s' "${assignment#*=}" | base64 -d >/dev/null 2>&1 || broken 'a value did not arrive whole'
done
set +f
for text in "$script_base64" "$check_base64"; do
    printf '%s' "$text" | base64 -d >/dev/null 2>&1 || broken 'a script did not arrive whole'
done

# Seconds on a clock that nobody sets: a fresh host's time of day is often put right about now.
seconds() {
    if [ -r /proc/uptime ]; then
        read -r up _ </proc/uptime
        printf '%s\n' "${up%%.*}"
    else
        date +%s
    fi
}

# Becomes the file $2, for at most $1 seconds, with the parameters in its environment.
become() {
    umask 022
    limit=$1
    file=$2
    # Its interpreter is started by us: the directory may be mounted so that nothing on it can be executed.
    IFS= read -r opening <"$file" || :
    set -f
    case $opening in
        '#!'*[!\ ]*)
            # shellcheck disable=SC2086 # The interpreter and its arguments are words.
            set -- ${opening#??}
            ;;
        *) set -- sh ;;
    esac
    for assignment in $assignments; do
        # The dot keeps the newlines at the end, which $() would drop.
        value=$(printf '%s' "${assignment#*=}" | base64 -d && echo .)
        export "${assignment%%=*}=${value%.}"
    done
    exec timeout -k 5 "$limit" "$@" "$file"
}

runner='' drain='' keeper=''

# Runs the file $2 for at most $1 seconds. Sets code, and line: the last one that is not empty.
#
# It is a process of its own: it shares no variable with this one, reads nothing, and what it prints goes
# through two pipes into a file of bounded size. It may print without end: only the end is kept. What it
# leaves running holds the first pipe open; the second one is ours, and ends when we say so.
run() {
    asked=$(seconds)
    rm -f "$guard/said" "$guard/kept"
    mkfifo "$guard/said" "$guard/kept" || broken "no pipe in $guard"
    tail -c 65536 <"$guard/kept" >"$guard/output" &
    keeper=$!
    cat <"$guard/said" >"$guard/kept" &
    drain=$!
    become "$1" "$2" </dev/null >"$guard/said" 2>&1 &
    runner=$!
    wait "$runner"
    code=$?
    runner=''
    tries=20
    while kill -0 "$drain" 2>/dev/null && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    kill "$drain" 2>/dev/null
    wait "$drain" "$keeper" 2>/dev/null
    drain='' keeper=''
    # A progress bar's lines end with a carriage return.
    line=$(LC_ALL=C tr '\r\t' '\n ' <"$guard/output" | LC_ALL=C tr -cd '\n\040-\176' | grep '[^ ]' |
        tail -n 1 | sed 's/^ *//; s/ *$//' | cut -c 1-200)
    # timeout dies with those whom it has to kill.
    if [ "$code" -eq 137 ] && [ $(($(seconds) - asked)) -ge "$1" ]; then
        code=124
    fi
    if [ "$code" -eq 124 ] && [ -z "$line" ]; then
        line="ended after $1 s"
    fi
}

is_first $((timeout_seconds + 25)) || finish "$result"

tidy() {
    rm -f "$guard/script" "$guard/check" "$guard/said" "$guard/kept" "$guard/output"
}
# Without a result, whoever comes second would wait for the whole time.
ended_from_outside() {
    trap '' TERM INT HUP
    for process in $runner $drain $keeper; do
        kill "$process" 2>/dev/null
    done
    leave 'lamplighter-exit 143 ended from outside'
    finish 'lamplighter-exit 143 ended from outside'
}
trap tidy EXIT
trap ended_from_outside TERM INT HUP

{
    printf '%s' "$script_base64" | base64 -d >"$guard/script" &&
        printf '%s' "$check_base64" | base64 -d >"$guard/check" &&
        chmod 700 "$guard/script" "$guard/check"
} || broken "cannot write to $guard"

began=$(seconds)
left() {
    printf '%s\n' $((timeout_seconds - ($(seconds) - began)))
}

run "$timeout_seconds" "$guard/script"
if [ "$code" -eq 0 ] && [ -s "$guard/check" ]; then
    told=$line
    while :; do
        rest=$(left)
        # A script that needed all of its time is still asked for once.
        [ "$rest" -ge 1 ] || rest=1
        run "$rest" "$guard/check"
        if [ "$code" -eq 0 ]; then
            line=$told
            break
        fi
        line="check: $line"
        [ "$(left)" -gt 2 ] || break
        sleep 2
    done
fi

result="lamplighter-exit $code $(printf '%s' "$line" | cut -c 1-200)"
leave "$result"
finish "$result"
