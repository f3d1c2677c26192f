#!/usr/bin/env bash
# Debian packages of the agent for ARM gateways: cross/package.sh [aarch64] [armv7]   (none named: both)
# Takes the binaries that cross/build.sh left in .cross/out/, and leaves edge-agent_VERSION_ARCH.deb beside them.
# They depend on nothing: the binary is static. Needs dpkg-deb.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/toolchain.sh"
OUT=$CROSS_CACHE/out

main() {
  [ $# -gt 0 ] || set -- aarch64 armv7
  command -v dpkg-deb >/dev/null || cross_fail "no dpkg-deb here: packages are made on Debian or Ubuntu"
  local arch
  for arch in "$@"; do cross_target "$arch" >/dev/null; package "$arch"; done
}

package() {
  local binary=$OUT/edge-agent-$1 name version root
  declare -A names=([aarch64]=arm64 [armv7]=armhf)
  name=${names[$1]}
  version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$CROSS_ROOT/Cargo.toml")
  [ -e "$binary" ] || cross_fail "no $binary: run 'cross/build.sh $1' first"
  root=$(mktemp -d)
  lay_out "$root" "$binary"
  control "$root" "$name" "$version"
  local deb=$OUT/edge-agent_${version}_$name.deb
  dpkg-deb --root-owner-group -Zxz --build "$root" "$deb" >/dev/null
  rm -r "$root"
  printf '.cross/out/%s: %d bytes\n' "$(basename "$deb")" "$(stat -c %s "$deb")"
}

lay_out() {
  local root=$1 from=$CROSS_ROOT
  install -D -m 755 "$2" "$root/usr/bin/edge-agent"
  install -D -m 644 "$from/systemd/edge-agent.service" "$root/lib/systemd/system/edge-agent.service"
  install -D -m 644 "$from/systemd/edge-agent.sysusers" "$root/usr/lib/sysusers.d/edge-agent.conf"
  local example
  for example in "$from"/config/agent.toml "$from"/config/mqtt.toml; do
    [ ! -e "$example" ] || install -D -m 644 "$example" "$root/usr/share/doc/edge-agent/examples/$(basename "$example")"
  done
  [ ! -e "$from/README.md" ] || install -D -m 644 "$from/README.md" "$root/usr/share/doc/edge-agent/README.md"
  install -d -m 750 "$root/etc/edge-agent"
  chmod 755 "$root"
}

control() {
  local root=$1/DEBIAN size
  size=$(du -sk "$1" | cut -f1)
  install -d -m 755 "$root"
  install -m 755 "$CROSS_ROOT"/cross/debian/{postinst,prerm,postrm} "$root/"
  cat >"$root/control" <<CONTROL
Package: edge-agent
Version: $3
Architecture: $2
Maintainer: edge-agent maintainers <root@localhost>
Installed-Size: $size
Section: net
Priority: optional
Description: reads sensors, keeps readings on disk, forwards them
 Polls sensors by Modbus and MQTT, buffers every reading on disk and forwards
 it to a collector over mutual TLS. Statically linked.
CONTROL
}

main "$@"
