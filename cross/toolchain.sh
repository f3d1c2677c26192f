# Sourced by cross/build.sh and scripts/test-arm: what a build for ARM needs, fetched once into .cross/ (never installed).
#
#   cross_prepare ARCH              fetches what is missing, says which way it builds
#   cross_cargo ARCH COMMAND ...    cargo for that architecture: `build`, or `test --no-run`
#
# The linker and C compiler is zig, from PyPI. The standard library comes from the first of these that is there:
#   1. rustup's own copy for the target, when the developer has added it (never on 32 bits: its clock ends in 2038)
#   2. the rust-src component of the toolchain, built with the program
#   3. Debian's newest compiler (`rustc-web`) and its source, unpacked without root, built with the program

CROSS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CROSS_CACHE=$CROSS_ROOT/.cross
CROSS_ZIG_VERSION=0.15.2
CROSS_ZIGBUILD_VERSION=0.24.1

cross_say() { printf 'cross: %s\n' "$*" >&2; }
cross_fail() { printf 'cross: error: %s\n' "$*" >&2; exit 1; }

cross_target() {
  case "$1" in
    aarch64) echo aarch64-unknown-linux-musl ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    *) cross_fail "unknown architecture '$1': aarch64 or armv7" ;;
  esac
}

cross_prepare() {
  mkdir -p "$CROSS_CACHE"
  cross_fetch_zig
  cross_choose_std "$1"
  [ "$CROSS_STD" != debian ] || cross_fetch_debian
  cross_say "$1: $(cross_rustc -V), $(cross_std_words)"
}

cross_cargo() {
  local arch=$1 target std=()
  target=$(cross_target "$arch"); shift
  cross_prepare "$arch"
  (
    export PATH="$CROSS_CACHE/pip/bin:$CROSS_CACHE/pip/ziglang:$PATH"
    export CARGO_ZIGBUILD_CACHE_DIR=$CROSS_CACHE/zigbuild ZIG_GLOBAL_CACHE_DIR=$CROSS_CACHE/zig
    export CARGO_TARGET_DIR=$CROSS_CACHE/target
    if [ "$CROSS_STD" != rustup ]; then
      std=(-Zbuild-std=std,panic_unwind) # unwind: a damaged sled panics on open and must be caught
      export RUSTC_BOOTSTRAP=1
      [ "$CROSS_STD" != debian ] || export RUSTC=$CROSS_CACHE/rustc RUSTDOC=$CROSS_CACHE/rustdoc
      cross_export_flags "$arch" "$target"
    fi
    cd "$CROSS_ROOT"
    cross_zigbuild "$target" "${std[@]}" "$@"
  )
}

# cargo-zigbuild takes `build` by another name than `test`
cross_zigbuild() {
  local target=$1 command; shift
  local before=()
  while [[ $1 == -Z* ]]; do before+=("$1"); shift; done
  command=$1; shift
  [ "$command" != build ] || command=zigbuild
  cargo-zigbuild "$command" --target "$target" "${before[@]}" "$@"
}

cross_export_flags() {
  local flags="-C link-self-contained=no" # zig brings crt1.o
  if [ "$1" = armv7 ]; then
    # 64-bit time in musl, in the libc crate below std and below ours, and waits that fit it
    export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
    flags+=" --cfg libc_unstable_musl_v1_2 -C link-arg=$(cross_futex_object)"
  fi
  local name=${2^^}
  export "CARGO_TARGET_${name//-/_}_RUSTFLAGS=$flags"
}

cross_futex_object() {
  local object=$CROSS_CACHE/futex.o source=$CROSS_ROOT/cross/futex.c
  if [ ! "$object" -nt "$source" ]; then
    zig cc -target arm-linux-musleabihf -mcpu=generic+v7a -marm -O2 -Wall -Werror -c "$source" -o "$object.new" >&2
    mv "$object.new" "$object"
  fi
  echo "$object"
}

cross_fetch_zig() {
  local done=$CROSS_CACHE/pip/.$CROSS_ZIG_VERSION-$CROSS_ZIGBUILD_VERSION
  [ ! -e "$done" ] || return 0
  cross_say "fetching zig $CROSS_ZIG_VERSION and cargo-zigbuild $CROSS_ZIGBUILD_VERSION from PyPI"
  rm -rf "$CROSS_CACHE/pip"
  cross_pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$CROSS_CACHE/pip" \
    "ziglang==$CROSS_ZIG_VERSION" "cargo-zigbuild==$CROSS_ZIGBUILD_VERSION" ||
    cross_fail "PyPI gave no zig: look at the message above"
  touch "$done"
}

# Debian's Python comes without pip: its wheel runs without being installed.
cross_pip() {
  if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip "$@"; return; fi
  [ -d "$CROSS_CACHE/pip-wheel" ] || cross_unpack pip-wheel python3-pip-whl
  local wheel
  wheel=$(echo "$CROSS_CACHE"/pip-wheel/usr/share/python-wheels/pip-*.whl)
  python3 "$wheel/pip" "$@"
}

cross_choose_std() {
  local target
  target=$(cross_target "$1")
  if [ "$1" != armv7 ] && cross_rustup_has "$target"; then CROSS_STD=rustup
  elif [ -e "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then CROSS_STD=source
  elif command -v apt-get >/dev/null && [ "$(uname -m)" = x86_64 ]; then CROSS_STD=debian
  else
    cross_fail "no standard library for $target: run 'rustup component add rust-src', then this again"
  fi
}

cross_rustup_has() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }

cross_std_words() {
  case "$CROSS_STD" in
    rustup) echo "standard library from rustup" ;;
    source) echo "standard library built from the toolchain's rust-src" ;;
    debian) echo "compiler and standard library's source from Debian, unpacked into .cross/" ;;
  esac
}

cross_rustc() { if [ "$CROSS_STD" = debian ]; then "$CROSS_CACHE/rustc" "$@"; else rustc "$@"; fi; }

cross_fetch_debian() {
  [ ! -e "$CROSS_CACHE/debian/.done" ] || return 0
  cross_say "fetching Debian's rustc-web and its source (about 140 MB, unpacked 850 MB)"
  cross_apt_lists
  local std llvm
  std=$(cross_depends libstd-rust-web-dev libstd-rust-web-)
  llvm=$(cross_depends "${std:-none}" libllvm)
  [ -n "$std" ] && [ -n "$llvm" ] || cross_fail "this system's packages have no rustc-web:" \
    "run 'rustup component add rust-src' (or 'rustup target add' for aarch64), then this again"
  cross_unpack debian rustc-web libstd-rust-web-dev rust-web-src "$std" "$llvm"
  local program
  for program in rustc rustdoc; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s/usr/lib/x86_64-linux-gnu exec %s/usr/bin/%s "$@"\n' \
      "$CROSS_CACHE/debian" "$CROSS_CACHE/debian" "$program" >"$CROSS_CACHE/$program"
    chmod +x "$CROSS_CACHE/$program"
  done
  "$CROSS_CACHE/rustc" -V >/dev/null || cross_fail "Debian's compiler doesn't run here: look at the message above"
  touch "$CROSS_CACHE/debian/.done"
}

# Our own package lists: asking for them needs no root, and leaves the machine's alone.
cross_apt() {
  local tool=$1; shift
  "$tool" -o Dir::State::Lists="$CROSS_CACHE/apt/lists" -o Dir::Cache="$CROSS_CACHE/apt/cache" \
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o APT::Update::Post-Invoke::= "$@"
}

cross_apt_lists() {
  [ -e "$CROSS_CACHE/apt/.done" ] && return
  mkdir -p "$CROSS_CACHE/apt/lists/partial" "$CROSS_CACHE/apt/cache/archives/partial"
  cross_apt apt-get -qq update || cross_fail "the package lists could not be fetched: look at the message above"
  touch "$CROSS_CACHE/apt/.done"
}

cross_depends() { cross_apt apt-cache depends "$1" | awk -v name="$2" '/Depends: /&&index($2,name)==1{print $2; exit}'; }

# cross_unpack FOLDER PACKAGE...: their files, whole or not at all
cross_unpack() {
  local folder=$CROSS_CACHE/$1; shift
  cross_apt_lists
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new/debs"
  (cd "$folder.new/debs" && cross_apt apt-get -qq download "$@") || cross_fail "not to be had from apt: $*"
  local deb
  for deb in "$folder.new"/debs/*.deb; do dpkg -x "$deb" "$folder.new"; done
  rm -r "$folder.new/debs"
  mv "$folder.new" "$folder"
}
