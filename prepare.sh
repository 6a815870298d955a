#!/usr/bin/env bash
# Prepares a machine for the Makefile's targets.
#   prepare.sh VENV      a virtual environment with the locked Python packages and this checkout
#   prepare.sh --system  the Debian packages; installs what is missing when root, else says what is missing
#   prepare.sh --install DIR   a virtual environment with Isthmus itself, independent of this checkout
set -euo pipefail
cd "$(dirname "$0")"

# a program that must be there, and the Debian package that brings it
NEEDED=(
  nft:nftables ip:iproute2 nsenter:util-linux unshare:util-linux setpriv:util-linux mount:mount ps:procps
  mariadbd:mariadb-server-core mariadb-install-db:mariadb-server-core my_print_defaults:mariadb-client-core
  mariadb:mariadb-client-core curl:curl systemctl:systemd pgrep:procps
)
[ "$(id -u)" = 0 ] || NEEDED+=(newuidmap:uidmap)

install_packages() { # PACKAGE...: with apt when root, else one clear sentence
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing on this machine: $*. Install them (Debian: sudo apt-get install $*) and run this again." >&2
    exit 1
  fi
  echo "Installing Debian packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return
  apt-get update -qq
  apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@" >/dev/null
}

system() {
  local missing=() pair
  for pair in "${NEEDED[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} = 0 ] || install_packages $(printf '%s\n' "${missing[@]}" | sort -u)
}

python() { # the newest Python that is at least 3.11
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$name"; return; }
  done
  return 1
}

environment() { # VENV [OPTION…]: the options say how this checkout is installed
  local venv=$1 python
  shift
  python=$(python) || { install_packages python3 python3-venv; python=$(python); }
  "$python" -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
  [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
  echo "Installing Python packages into $venv"
  "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r requirements.lock
  "$venv/bin/pip" install -q --disable-pip-version-check --no-deps --no-build-isolation "$@" .
}

case "${1:-}" in
  --system) system ;;
  --install) environment "${2:?prepare.sh --install DIR}" ;;
  "") echo "usage: prepare.sh VENV | --install DIR | --system" >&2; exit 2 ;;
  *) environment "$1" -e ;;
esac
