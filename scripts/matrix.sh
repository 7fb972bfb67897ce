# Sourced by the scripts that need other releases of Sidekiq: Debian change-roots, built once and kept in BRIDGE_MATRIX.

. scripts/mirror.sh

MATRIX=${BRIDGE_MATRIX:-${XDG_CACHE_HOME:-$HOME/.cache}/sidekiq-bridge/matrix}
PACKAGES=ruby,ruby-sidekiq,ruby-rails,ruby-sqlite3,ruby-sinatra,ruby-rack-test,puma,ruby-rspec,redis-server

built() { chroot "$MATRIX/$1" sh -c 'ruby -e "require %q(sidekiq)" && command -v rspec redis-server' >/dev/null 2>&1; }

build() {
    local release=$1 target="$MATRIX/$1"
    command -v debootstrap >/dev/null || { echo "please install debootstrap" >&2; return 1; }
    echo "Building $target (once; some minutes)"
    mkdir -p "$MATRIX"
    rm -rf "$target.part"
    debootstrap --variant=minbase --include="$PACKAGES" "$release" "$target.part" "$(mirror)" >"$MATRIX/$release.log" 2>&1 ||
        { tail -n 20 "$MATRIX/$release.log" >&2; return 1; }
    rm -rf "$target"
    mv "$target.part" "$target"
}
