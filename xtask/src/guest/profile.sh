# For the interactive shell of the guest.
export PATH=/bin HOME=/root TERM="${TERM:-linux}" PS1='\w \$ '
cd /root

if [ -f /at-end ]; then
    poweroff() {
        sh /at-end
        command poweroff "$@"
    }
fi
