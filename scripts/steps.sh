# Sourced by scripts that run several steps, all of them even when one fails.

failed=""

# step NAME COMMAND ...: a step that took a while says how long.
step() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    "$@" || failed="$failed $name"
    if [ $((SECONDS - began)) -ge 60 ]; then echo "== $name: $(duration $((SECONDS - began)))"; fi
}

# duration SECONDS, for people
duration() { echo "$(($1 / 60)) min $(($1 % 60)) s"; }

# The last line of such a script: fails if a step did.
all_passed() {
    [ -z "$failed" ] && return
    echo "FAILED:$failed" >&2
    return 1
}
