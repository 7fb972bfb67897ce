# Sourced by scripts that run several steps, all of them even when one fails.

failed=""

# step NAME COMMAND ...
step() {
    local name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed $name"
}

# The last line of such a script: fails if a step did.
all_passed() {
    [ -z "$failed" ] && return
    echo "FAILED:$failed" >&2
    return 1
}
