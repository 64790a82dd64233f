#!/usr/bin/env bash
# System libraries that Qt and OpenGL need, and Xvfb for machines without a display.
# Debian and its kin as root: installs what is missing. Otherwise says what to do and goes on.
set -euo pipefail

packages=(
  xvfb libgl1 libegl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libdbus-1-3
  libx11-xcb1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0
  libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xfixes0
  libxcb-xinerama0
)

if [ ! -r /etc/debian_version ] || ! command -v dpkg-query >/dev/null; then
  if [ "$(uname -s)" = Linux ]; then
    echo "system-libs: not a Debian system; install Xvfb, OpenGL (Mesa) and the xcb libraries of Qt 6 with your package manager if the viewer does not start."
  fi
  exit 0
fi

installed() {  # newer releases name some libraries with a t64 at the end
  { dpkg-query -W -f='${db:Status-Status}\n' "$1" "$1t64" 2>/dev/null || true; } | grep -qx installed
}

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "system-libs: as root, run: apt-get install -y ${missing[*]}"
  exit 0
fi
echo "system-libs: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
