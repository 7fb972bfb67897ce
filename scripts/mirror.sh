# Sourced by the scripts that make Debian systems.

# Prints the package mirror of this system.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -nE 's/^(deb +(\[[^]]*\] +)?|URIs: *)(https?:[^ ]*debian\/?)( .*)?$/\3/p' | head -n 1
}
