#!/bin/sh
# Build a base image of the cluster from Debian packages, for machines without a registry of images.
#
#   docker/base-image.sh SUITE TAG      such as: docker/base-image.sh trixie pool-base:trixie
#
# It holds Python and an ssh server, as `python:3.13-slim` does after `apt-get install
# openssh-server`. The packages come from where this machine's own come from. Needs root and
# debootstrap; takes about a minute.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 SUITE TAG" >&2
    exit 2
fi
suite=$1
tag=$2

if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
    echo "$0: needs root and debootstrap: apt-get install debootstrap" >&2
    exit 1
fi

# The mirror of this machine's apt; those of security updates have another layout.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
    grep -v security | head -n 1)
if [ -z "$mirror" ]; then
    echo "$0: apt knows no mirror; run apt-get update" >&2
    exit 1
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

debootstrap --variant=minbase --include=python3,openssh-server \
    "$suite" "$root/base" "$mirror" >"$root/log" 2>&1 || {
    tail -n 20 "$root/log" >&2
    exit 1
}

# Each container makes its own host keys. What only fills the image goes.
cd "$root/base"
rm -f etc/ssh/ssh_host_* var/cache/apt/archives/*.deb var/cache/apt/*.bin
rm -rf var/lib/apt/lists/* var/log/* usr/share/doc/* usr/share/man/* usr/share/locale/* \
    usr/share/info/*

tar --numeric-owner -c . | docker import \
    --change 'CMD ["python3"]' \
    --change 'LABEL pool.cluster=base' \
    --message "Debian $suite with Python and an ssh server" \
    - "$tag" >/dev/null
echo "$tag: $(docker image inspect --format '{{.Size}}' "$tag") bytes"
