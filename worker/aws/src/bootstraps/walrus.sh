#!/bin/sh
# Brings a model from Walrus onto a fresh host: fetches a zip, unpacks it and starts its script.sh as a unit of
# its own, walrus-model. The zip has script.sh at its top or in a folder model/, whose neighbours are left out.
# Nothing is unpacked before every name, every link and the whole size are known to be harmless (by unzip's own
# listing), and what is there already stays until then.
#
# LAMPLIGHTER_BLOB_ID is tried as a blob and then as an object, LAMPLIGHTER_OBJECT_ID as an object; one of them
# is set. May be set: LAMPLIGHTER_AGGREGATOR (a URL), LAMPLIGHTER_MAX_BYTES (of the zip, 20 GiB),
# LAMPLIGHTER_MODEL_DIR (/tmp/model; the zip is kept beside it), LAMPLIGHTER_INSTALL_SECONDS (90, for apt's lock
# too), LAMPLIGHTER_STALL_SECONDS (20, with less than 1 KiB/s), LAMPLIGHTER_SETTLE_SECONDS (3).
#
# The last line says what came of it, and the exit code which part it was:
#   0 started, and still well after the settle seconds
#   10 parameters                 15 disk: no room           20 model: the folder is not ours to replace
#   11 install                    16 archive: not a zip      21 unit: cannot be started
#   12 fetch: not found           17 archive: refused        22 unit: failed at once
#   13 fetch: anything else       18 unpack                  143 ended from outside
#   14 fetch: too large           19 archive: no script.sh
set -u
umask 022
# In another language unzip writes names that are not ASCII as escapes, and apt's words are not ours.
export LC_ALL=C.UTF-8

fail() {
    printf '%s\n' "$2"
    exit "$1"
}
last_line() {
    printf '%s\n' "$1" | grep '[^ ]' | tail -n 1
}

blob=${LAMPLIGHTER_BLOB_ID:-}
object=${LAMPLIGHTER_OBJECT_ID:-}
aggregator=${LAMPLIGHTER_AGGREGATOR:-https://aggregator.walrus-testnet.walrus.space}
aggregator=${aggregator%/}
model=${LAMPLIGHTER_MODEL_DIR:-/tmp/model}
folder=${model%/*}
max_bytes=${LAMPLIGHTER_MAX_BYTES:-21474836480}
install_seconds=${LAMPLIGHTER_INSTALL_SECONDS:-90}
stall_seconds=${LAMPLIGHTER_STALL_SECONDS:-20}
settle_seconds=${LAMPLIGHTER_SETTLE_SECONDS:-3}
unit=walrus-model

[ -n "$blob$object" ] || fail 10 'parameters: neither a blob id nor an object id'
for id in "$blob" "$object"; do
    case $id in *[!0-9A-Za-z_-]*) fail 10 'parameters: an id is letters, digits, - and _' ;; esac
    [ "${#id}" -le 128 ] || fail 10 'parameters: an id has at most 128 characters'
done
case $aggregator in
    *[!0-9A-Za-z._~:/@%-]*) fail 10 'parameters: the aggregator is no URL' ;;
    https://?*) protocols='=https' ;;
    http://?*) protocols='=http,https' ;;
    *) fail 10 'parameters: the aggregator is no URL' ;;
esac
case $model in
    *[!0-9A-Za-z._/-]* | */ | */. | */..) fail 10 'parameters: the model folder is no plain path' ;;
    /*/*) ;;
    *) fail 10 'parameters: the model folder is no plain path' ;;
esac
for number in "$max_bytes" "$install_seconds" "$stall_seconds" "$settle_seconds"; do
    case $number in '' | *[!0-9]* | ????????????????*) fail 10 'parameters: a limit is no number' ;; esac
done

# What somebody else put there in advance is not ours to follow or to remove; nor is a folder that is no model.
if [ -L "$model" ]; then
    fail 20 "model: $model is a symlink"
elif [ -e "$model" ]; then
    [ -d "$model" ] && [ -O "$model" ] || fail 20 "model: $model is not a folder of ours"
    [ -f "$model/script.sh" ] || rmdir "$model" 2>/dev/null || fail 20 "model: $model holds something else"
fi
[ -L "$model.zip" ] || ! [ -d "$model.zip" ] || fail 20 "model: $model.zip is a folder"
for tool in systemd-run systemctl; do
    command -v "$tool" >/dev/null || fail 21 "unit: this host has no $tool"
done

# apt's lock is held on a fresh host for as long as its first upgrade lasts. A restart of SSM's agent, which
# needrestart may do, would be our own end.
patiently() {
    tries=$((install_seconds / 2))
    while :; do
        said=$(timeout --foreground "$install_seconds" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l "$@" \
            </dev/null 2>&1)
        code=$?
        [ "$code" -ne 0 ] || return 0
        [ "$code" -ne 124 ] || fail 11 "install: $1 did not end within $install_seconds s"
        case $said in
            *'ould not get lock'* | *'nable to lock'* | *'nable to acquire'*) ;;
            *) fail 11 "install: $(last_line "$said")" ;;
        esac
        [ "$tries" -gt 0 ] || fail 11 "install: apt's lock is still held after $install_seconds s"
        tries=$((tries - 1))
        sleep 2
    done
}
install() {
    set --
    for tool in curl unzip; do
        command -v "$tool" >/dev/null || set -- "$@" "$tool"
    done
    if command -v apt-get >/dev/null; then
        venv=python3.12-venv
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$venv" 2>/dev/null)" != installed ] || venv=''
        [ -n "$venv$*" ] || return 0
        # A fresh host's lists may be empty.
        patiently apt-get -qq update
        [ -z "$venv" ] || ! apt-cache show "$venv" >/dev/null 2>&1 || set -- "$@" "$venv"
        [ "$#" -eq 0 ] || patiently apt-get -qq -y install "$@"
    elif [ "$#" -gt 0 ]; then
        for tool in dnf yum ''; do
            [ -n "$tool" ] || fail 11 "install: neither apt-get nor dnf here, for $*"
            if command -v "$tool" >/dev/null; then
                patiently "$tool" -q -y install "$@"
                break
            fi
        done
    fi
    for tool in curl unzip; do
        command -v "$tool" >/dev/null || fail 11 "install: there is still no $tool"
    done
}
echo 'installing what is needed'
install

# Beside the folder, so that a rename replaces it; a name that nobody could have taken in advance.
mkdir -p "$folder" 2>/dev/null
staging=$(mktemp -d "$folder/.walrus.XXXXXXXX" 2>/dev/null) || fail 15 "disk: cannot make a folder in $folder"
trap 'rm -rf "$staging"' EXIT
trap 'exit 143' TERM INT HUP
zip=$staging/model.zip
out=$staging/model

# A twentieth stays free: a full disk would end more than us.
room() {
    df -Pk "$folder" | awk 'END { printf "%.0f\n", $4 * 1024 * 0.95 }'
}

# Fetches $1. Returns 1 where the aggregator has nothing there: it answers 400 to an id of the other kind.
fetch() {
    echo "fetching $1"
    room=$(room)
    limit=$max_bytes
    [ "$room" -ge "$limit" ] || limit=$room
    # curl alone would hold to the limit only where the length is told in advance. A shell of its own, so that
    # what is said of its end is caught as well.
    said=$(exec 2>&1; ulimit -f $((limit / 512 + 1)); curl --fail --silent --show-error --globoff --location \
        --max-redirs 5 --proto "$protocols" --proto-redir "$protocols" --connect-timeout 10 --max-time 3600 \
        --speed-limit 1024 --speed-time "$stall_seconds" --retry 2 --retry-delay 1 --retry-max-time 60 \
        --max-filesize "$limit" --write-out '\n%{http_code}' --output "$zip" --url "$1"; exit "$?")
    code=$?
    status=${said##*
}
    words=$(printf '%s\n' "$said" | grep '^curl: ' | tail -n 1)
    case $code in
        0) return 0 ;;
        22)
            case $status in 400 | 404) return 1 ;; esac
            fail 13 "fetch: HTTP $status at $1"
            ;;
        63 | 153)
            [ "$limit" -eq "$max_bytes" ] || fail 15 "disk: the zip does not fit in the $limit bytes of room in $folder"
            fail 14 "fetch: more than $limit bytes at $1"
            ;;
        23) fail 15 "disk: ${words:-cannot write} in $folder" ;;
        5 | 6 | 7) fail 13 "fetch: cannot reach $1" ;;
        18) fail 13 "fetch: broke off at $1" ;;
        28) fail 13 "fetch: no answer in time at $1" ;;
        47) fail 13 "fetch: more than 5 redirects at $1" ;;
        *) fail 13 "fetch: ${words:-curl ended with $code} at $1" ;;
    esac
}
found=''
for path in ${blob:+"$blob" "by-object-id/$blob"} ${object:+"by-object-id/$object"}; do
    url=$aggregator/v1/blobs/$path
    if fetch "$url"; then
        found=yes
        break
    fi
    echo "nothing ($status) at $url"
done
[ -n "$found" ] || fail 12 "fetch: blob not found ($status) at $url"

[ -s "$zip" ] || fail 16 "archive: 0 bytes at $url"
if [ "$(head -c 4 "$zip" | od -An -tx1 | tr -d ' \n')" != 504b0304 ]; then
    ! head -c 512 "$zip" | grep -aqi '<html\|<!doctype' || fail 16 "archive: a web page instead of a zip at $url"
    fail 16 "archive: not a zip at $url"
fi
for listing in '-1 names' '-s modes'; do
    # A pattern keeps the listing's head and foot away.
    unzip -Z "${listing% *}" "$zip" '*' >"$staging/${listing#* }" 2>/dev/null
    [ "$?" -le 1 ] || fail 16 "archive: not a whole zip at $url"
done
bytes=$(unzip -Zt "$zip" 2>/dev/null | sed -n 's/^[0-9]* files\{0,1\}, \([0-9]*\) bytes uncomp.*/\1/p')
case $bytes in '' | ????????????????*) fail 17 'archive: no plausible size' ;; esac

# Prints `! WORDS`, or where script.sh lies (`model/` or nothing) and then each link that would be unpacked.
verdict=$(LC_ALL=C awk '
    function refuse(words) { print "! " words ": " substr(name, 1, 100); refused = 1; exit }
    NR == FNR { mode[FNR] = substr($0, 1, 1); modes = FNR; next }
    {
        name = $0
        kind = mode[FNR]
        names = FNR
        if (name ~ /^\// || name ~ /^[A-Za-z]:/) refuse("an absolute path")
        if (name ~ /(^|\/)\.\.(\/|$)/) refuse("a path that leaves the folder")
        # unzip shows a control character as ^J, and leaves it out of the name that it makes.
        if (name ~ /\\|\/\/|(^|\/)\.(\/|$)|\^[@-_?]/) refuse("a name that is none")
        if (kind !~ /[-?dl]/ || (kind == "l" && name ~ /\/$/)) refuse("neither file nor folder")
        if (name == "model/script.sh" && kind != "l") top = "model/"
        if (name == "script.sh" && kind != "l") plain = 1
        path[FNR] = name
        if (kind == "l") link[name] = FNR
    }
    END {
        if (refused) exit
        if (modes != names) { name = names; refuse("two listings that differ") }
        for (i = 1; i <= names; i++) {
            name = path[i]
            if (name in link && link[name] != i) refuse("a link and something else")
            for (rest = name; match(rest, /\/[^\/]*$/); ) {
                rest = substr(rest, 1, RSTART - 1)
                if (rest in link) refuse("a path through a link")
            }
        }
        if (top == "" && !plain) { print "?"; exit }
        print top
        for (i = 1; i <= names; i++)
            if (path[i] in link && index(path[i], top) == 1) print path[i]
    }' "$staging/modes" "$staging/names") || fail 17 'archive: the listing cannot be read'
case $verdict in
    '!'*) fail 17 "archive: ${verdict#! }" ;;
    '?'*) fail 19 'archive: no script.sh in it' ;;
esac
top=$(printf '%s\n' "$verdict" | head -n 1)
printf '%s\n' "$verdict" | tail -n +2 >"$staging/links"
links=$(awk 'END { print NR }' "$staging/links")
[ "$links" -le 1000 ] || fail 17 "archive: $links links"

# Whether a link $1 to $2 leaves the folder. Only the beginning may go up, and only as far as the link lies deep:
# by what follows it then arrives inside, even by way of other links.
leaves() {
    from=$1
    to=$2
    case $to in '' | /* | *'
'*) return 0 ;; esac
    while :; do
        case $to in
            .. | ../*)
                case $from in */*) from=${from%/*} ;; *) return 0 ;; esac
                to=${to#..}
                to=${to#/}
                ;;
            ./*) to=${to#./} ;;
            *) break ;;
        esac
    done
    case /$to/ in */../*) return 0 ;; esac
    return 1
}
while IFS= read -r link; do
    # To unzip a name is a pattern.
    pattern=$(printf '%s\n' "$link" | sed 's/[][*?]/\\&/g; s/^-/[-]/')
    target=$(unzip -p "$zip" "$pattern" 2>/dev/null </dev/null | head -c 4096 && echo .)
    target=${target%.}
    ! leaves "${link#"$top"}" "$target" || fail 17 "archive: a link that leaves the folder: $link"
done <"$staging/links"

room=$(room)
[ "$bytes" -le "$room" ] || fail 15 "disk: $bytes bytes to unpack and $room bytes of room in $folder"
echo "unpacking $bytes bytes"
mkdir "$out" || fail 15 "disk: cannot make a folder in $folder"
# No file may become larger than all of them say they are.
said=$(exec 2>&1; ulimit -f $((bytes / 512 + 1)); unzip -qq -o "$zip" "${top}*" -d "$out" </dev/null; exit "$?")
code=$?
[ -z "$(find "$out" -type f -size +"$bytes"c | head -n 1)" ] || code=153
case $code in
    0 | 1) ;;
    50) fail 15 "disk: full while unpacking in $folder" ;;
    153) fail 17 'archive: a file that is larger than it says' ;;
    *) fail 18 "unpack: unzip ended with $code: $(last_line "$said")" ;;
esac
new=$out/${top%/}
new=${new%/}
[ -f "$new/script.sh" ] && ! [ -L "$new/script.sh" ] || fail 19 'archive: script.sh is not a file'
[ "$(find "$new" -type l | awk 'END { print NR }')" -eq "$links" ] &&
    [ -z "$(find "$new" ! -type f ! -type d ! -type l | head -n 1)" ] ||
    fail 17 'archive: something else was unpacked than was listed'
# Root runs it: nobody else may write to it, whatever the archive says.
chmod -R go-w "$new" && chmod +x "$new/script.sh" || fail 18 'unpack: cannot set the modes'

# The unit before it may still use the old folder.
systemctl stop "$unit.service" 2>/dev/null
systemctl reset-failed "$unit.service" 2>/dev/null
[ ! -e "$model" ] || mv -T "$model" "$staging/old" || fail 20 "model: cannot replace $model"
mv -T "$new" "$model" && mv -fT "$zip" "$model.zip" || fail 20 "model: cannot make $model"

# It remains after its end, so that an end with success is not forgotten; a failure is not forgotten anyway.
began=$(date +%s)
said=$(systemd-run --quiet --unit="$unit" --remain-after-exit --working-directory="$model" \
    --setenv=HOME="${HOME:-/root}" -- "$(command -v bash || echo /bin/sh)" "$model/script.sh" 2>&1) ||
    fail 21 "unit: $(last_line "$said")"
waited=0
while :; do
    state=$(systemctl show -p ActiveState -p ExecMainStatus "$unit.service")
    case $state in *ActiveState=failed*) break ;; esac
    [ "$waited" -lt "$settle_seconds" ] || break
    sleep 1
    waited=$((waited + 1))
done
case $state in
    *ActiveState=active*) echo "$unit is started from $url ($bytes bytes)" ;;
    *)
        status=$(printf '%s\n' "$state" | sed -n 's/^ExecMainStatus=//p')
        words=$(journalctl --quiet --no-pager --output=cat --lines=1 --since="@$began" \
            "_SYSTEMD_UNIT=$unit.service" 2>/dev/null)
        fail 22 "unit: $unit ended with ${status:-no status}: $(last_line "$words")"
        ;;
esac
