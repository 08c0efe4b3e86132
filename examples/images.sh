#!/usr/bin/env bash
# Makes the images that the examples use, on this machine and without a registry.
# Usage: examples/images.sh [collector] [busybox]     (both without arguments)
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An image is a tar of its files; there is nothing in it but what is put there.
image_import() {
  local name=$1 change=$2 files=$3
  tar --owner=0 --group=0 --numeric-owner -C "$files" -c . | docker import --change "$change" - "$name" >/dev/null
  echo "made $name" >&2
}

image_collector() {
  mkdir "$work/collector"
  rustc --edition 2024 -C opt-level=s -C strip=symbols --target "$(uname -m)-unknown-linux-musl" \
    -o "$work/collector/collector" examples/collector/collector.rs
  image_import myrepo/collector:1.0 'ENTRYPOINT ["/collector"]' "$work/collector"
}

image_busybox() {
  local busybox applet
  has busybox || packages_install busybox-static
  busybox=$(command -v busybox)
  mkdir -p "$work/busybox/bin"
  cp "$busybox" "$work/busybox/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$work/busybox/bin/$applet"
  done
  image_import chassis-examples/busybox:1 'CMD ["/bin/sh"]' "$work/busybox"
}

[ $# -gt 0 ] || set -- collector busybox
for image; do
  case $image in
    collector | busybox) "image_$image" ;;
    *) die "no such image: $image (collector, busybox)" ;;
  esac
done
