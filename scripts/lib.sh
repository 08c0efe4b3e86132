# shellcheck shell=bash disable=SC2034
# What the scripts share: sourced, not run. It leaves the shell in the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target_dir=${CARGO_TARGET_DIR:-$PWD/target}
schemathesis_version=4.32.5
openapi_spec_validator_version=0.9.0
fuse_client_version=0.37.1
nextest_version=0.9.143

say() { printf '\n==> %s\n' "$*" >&2; }
die() {
  printf '\nerror: %s\n' "$*" >&2
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    has sudo || die "this needs root and there is no sudo: $*"
    sudo "$@"
  fi
}

# Installs Debian packages, and says so first.
packages_install() {
  has apt-get || die "missing: $*. Only apt-get is known here; install them with your own package manager."
  say "installing with apt-get: $*"
  as_root apt-get -q update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"
}

# What building takes beside Rust: a C compiler, and the target that chassis-init is built for.
compiler_prepare() {
  has cargo || die "Rust is missing: https://rustup.rs"
  has cc || packages_install gcc libc6-dev
  if has rustup; then rustup --quiet target add "$(uname -m)-unknown-linux-musl"; fi
}

docker_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
docker_answers_root() { as_root docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Docker installed and answering, to root at least. A daemon that is started without systemd goes on running; its
# process id is left in dockerd_pid and its output in /var/log/dockerd-chassis.log.
dockerd_pid=
docker_prepare() {
  if ! has docker; then
    packages_install docker.io iptables ca-certificates
    # Since Debian 13 the command has a package of its own.
    has docker || packages_install docker-cli
  fi
  if docker_answers; then return; fi
  [ -z "${DOCKER_HOST:-}" ] || die "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST"
  if docker_answers_root; then return; fi
  has dockerd || packages_install docker.io iptables
  if [ -d /run/systemd/system ]; then
    say "starting docker.service"
    as_root systemctl start docker
  elif pidof dockerd >/dev/null; then
    say "waiting for the dockerd that is starting"
  else
    dockerd_start
  fi
  for _ in $(seq 300); do
    if docker_answers_root; then return; fi
    [ -z "$dockerd_pid" ] || as_root kill -0 "$dockerd_pid" 2>/dev/null || break
    sleep 0.2
  done
  [ -z "$dockerd_pid" ] || as_root tail -n 20 /var/log/dockerd-chassis.log >&2
  die "Docker does not answer"
}

dockerd_start() {
  say "starting dockerd in the background (output: /var/log/dockerd-chassis.log)"
  if [ -z "$(ls -A /sys/fs/cgroup 2>/dev/null)" ]; then
    packages_install cgroupfs-mount
    as_root cgroupfs-mount
  fi
  # setsid: an interrupt typed at this script is not meant for the daemon. exec: the printed id is the daemon's.
  # shellcheck disable=SC2016
  dockerd_pid=$(as_root sh -c 'setsid sh -c '\''echo $$; exec dockerd >>/var/log/dockerd-chassis.log 2>&1 </dev/null'\'' &')
  echo "    process $dockerd_pid" >&2
}

# The Engine must answer the one who calls, not only root: tests do not run under sudo.
docker_require_own() {
  docker_answers || die "Docker runs, but not for you. Join its group, then log in again: sudo usermod -aG docker $(id -un)"
}

# Prometheus's own linter, for what the server shows it: one program out of its package, which would start a service.
promtool_prepare() {
  if has promtool || [ -x "$target_dir/tools/promtool" ] || ! has apt-get; then return; fi
  say "fetching promtool"
  local work
  work=$(mktemp -d)
  as_root apt-get -q update >/dev/null
  if (cd "$work" && apt-get -q download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool); then
    mkdir -p "$target_dir/tools"
    mv "$work/usr/bin/promtool" "$target_dir/tools/"
  fi
  rm -r "$work"
}

# Fuse's own client, as it is published, in an environment of its own: it drives a life in tests/fuse.
fuse_client_prepare() {
  local client=$target_dir/tools/fuse-client
  if [ -x "$client/bin/python" ] || ! has python3; then return; fi
  say "fetching folsom-fuse $fuse_client_version"
  mkdir -p "$target_dir/tools"
  if ! { python3 -m venv "$client" && "$client/bin/pip" -q install "folsom-fuse==$fuse_client_version"; }; then
    rm -rf "$client"
  fi
}

# What reads the API's description: it is held against the server by schemathesis.
python_tools_prepare() {
  local tools=$target_dir/tools/python
  if [ -x "$tools/bin/schemathesis" ] || ! has python3; then return; fi
  say "fetching schemathesis $schemathesis_version"
  mkdir -p "$target_dir/tools"
  if ! { python3 -m venv "$tools" \
    && "$tools/bin/pip" -q install "schemathesis==$schemathesis_version" "openapi-spec-validator==$openapi_spec_validator_version"; }; then
    rm -rf "$tools"
  fi
}
