#!/bin/busybox sh
# Boots Debian's kernel in a VM of this guest's, runs a command in its shell and
# switches it off: child-linux COMMAND [OPTION OF underlay-run]...
# Its status is that of underlay-run.
set -o pipefail
command=$1
shift
keys=$(mktemp -u)
mkfifo "$keys"
# For reading, too, so that neither side waits for the other to open it.
exec 4<>"$keys"
rm "$keys"
initrd=$(mktemp)
child-initrd >"$initrd"
underlay-run --kernel /root/vmlinuz.efi --initrd "$initrd" "$@" <&4 |
    while read -r line; do
        echo "$line"
        # The last that its init says before the shell.
        case $line in
        *'Ctrl-A X leaves'*) echo "$command; poweroff -f" >&4 ;;
        esac
    done
status=$?
rm "$initrd"
exit $status
