#!/usr/bin/env bash
# Static, stripped agent binaries for ARM gateways: cross/build.sh [aarch64] [armv7]   (none named: both)
# Needs the Rust toolchain, Python 3 and, where rustup has no standard library for ARM, Debian's or Ubuntu's apt.
# Leaves them in .cross/out/. Safe to repeat: what was fetched and built is used again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/toolchain.sh"
BUDGET_BYTES=10000000

main() {
  [ $# -gt 0 ] || set -- aarch64 armv7
  local arch
  for arch in "$@"; do cross_target "$arch" >/dev/null; done
  for arch in "$@"; do build "$arch"; done
}

build() {
  local arch=$1 started=$SECONDS out
  out=$CROSS_CACHE/out/edge-agent-$arch
  cross_cargo "$arch" build --profile cross -p edge-agent --bin edge-agent
  mkdir -p "$CROSS_CACHE/out"
  cp "$CROSS_CACHE/target/$(cross_target "$arch")/cross/edge-agent" "$out.new"
  must_be_static "$out.new" "$arch"
  mv "$out.new" "$out"
  report "$out" "$arch" $((SECONDS - started))
}

# A dynamic binary names its loader in a program header; a stripped one has no symbol table.
must_be_static() {
  python3 - "$1" "$2" <<'PYTHON' || cross_fail "$1 is no static, stripped binary for $2"
import struct, sys
data = open(sys.argv[1], "rb").read()
wide = data[4] == 2
machine = struct.unpack_from("<H", data, 18)[0]
offset, = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)
size, count = struct.unpack_from("<HH", data, 54 if wide else 42)
kinds = [struct.unpack_from("<I", data, offset + i * size)[0] for i in range(count)]
LOADER, wanted = 3, {"aarch64": (True, 183), "armv7": (False, 40)}[sys.argv[2]]
problems = [text for bad, text in [
    (data[:4] != b"\x7fELF", "no ELF file"),
    ((wide, machine) != wanted, f"for another machine ({machine})"),
    (LOADER in kinds, "asks for a dynamic loader"),
    (b".symtab\0" in data[-65536:], "not stripped"),
] if bad]
print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
sys.exit(bool(problems))
PYTHON
}

report() {
  local size
  size=$(stat -c %s "$1")
  [ "$size" -le "$BUDGET_BYTES" ] || cross_fail "$1 has $size bytes, more than the budget of $BUDGET_BYTES"
  awk -v f=".cross/out/$(basename "$1")" -v b="$size" -v s="$3" -v budget="$BUDGET_BYTES" \
    'BEGIN{printf "%s: static, stripped, %.2f MB (budget %.0f), %d s\n", f, b/1e6, budget/1e6, s}'
}

main "$@"
