#!/bin/sh
# Succeeds while walrus-model runs or has ended with success. Otherwise exits 1 and says how it ended.
set -u
unit=walrus-model.service
state=$(systemctl show -p LoadState -p ActiveState -p Result -p ExecMainStatus "$unit" 2>/dev/null)
value() {
    printf '%s\n' "$state" | sed -n "s/^$1=//p"
}
case $(value ActiveState) in
    active | reloading) exit 0 ;;
esac
# A unit that nobody knows has the status 0 as well.
if [ "$(value LoadState)" = loaded ] && [ "$(value ActiveState)" = inactive ] &&
    [ "$(value Result)" = success ] && [ "$(value ExecMainStatus)" = 0 ]; then
    exit 0
fi
words=$(journalctl --quiet --no-pager --output=cat --lines=1 "_SYSTEMD_UNIT=$unit" 2>/dev/null | tail -n 1)
status=$(value ExecMainStatus)
active=$(value ActiveState)
echo "$unit is ${active:-unknown}, status ${status:-unknown}: $words"
exit 1
