# Sourced by the scripts that make Debian systems.

# Where this system gets its own packages from.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -nE 's/^(deb +(\[[^]]*\] +)?|URIs: *)(https?:[^ ]*debian\/?)( .*)?$/\3/p' | head -n 1
}
