# Sourced by scripts/setup: shows how far apt-get or pip has come, and keeps what they say in tmp/setup.log.

# with_progress TOTAL COMMAND ...: TOTAL packages are expected; apt-get's own count replaces it.
with_progress() {
    local total=$1
    shift
    "$@" 2>&1 | tee tmp/setup.log | show_progress "$total"
    [ "${PIPESTATUS[0]}" = 0 ] && return
    tail -n 20 tmp/setup.log >&2
    return 1
}

# A phase is one of apt-get's or pip's; its packages are counted.
show_progress() {
    local total=$1 phase="" count=0 line now
    while IFS= read -r line; do
        case $line in
        *" newly installed, "*) total=$(sed -E 's/.* ([0-9]+) newly installed.*/\1/' <<<"$line") && continue ;;
        Get:*) now=downloading ;;
        "Collecting "*) now=downloading ;;
        "Unpacking "*) now=unpacking ;;
        "Setting up "*) now="setting up" ;;
        "Installing collected packages"*) say_progress "installing $total packages, the last step" && continue ;;
        *) continue ;;
        esac
        if [ "$now" != "$phase" ]; then phase=$now count=0; fi
        count=$((count + 1))
        # Off a terminal each phase is told four times, in a log of its own lines.
        if [ -t 1 ] || [ $((count % (total / 4 + 1))) = 0 ]; then say_progress "$phase $count of $total"; fi
    done
    if [ -t 1 ]; then printf '\r\033[K'; fi
}

say_progress() { if [ -t 1 ]; then printf '\r\033[K  %s' "$1"; else echo "  $1"; fi; }
