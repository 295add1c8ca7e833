#!/usr/bin/env bash
# Installs the Debian packages that building, testing and the quickstart need; says which, asks nothing, and does nothing
# where all are there. Usage: scripts/install_packages.sh [--test]
set -euo pipefail

packages=(
    g++ cmake ninja-build pkg-config
    libdnnl-dev libhwy-dev libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libtomlplusplus-dev
    libpcre2-dev libisal-dev libxxhash-dev libopenmpi-dev openmpi-bin libbenchmark-dev
    bible-kjv bible-kjv-text gnuplot-nox
)
if [[ "${1:-}" == --test ]]; then
    packages+=(libgtest-dev libgmock-dev liblz4-dev libzstd-dev python3-venv clang-format-14 clang-tidy-14 git)
fi

missing=()
for package in "${packages[@]}"; do
    if ! dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
        missing+=("$package")
    fi
done
if ((${#missing[@]} == 0)); then
    exit 0
fi

run_as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null || {
        echo "install_packages.sh: needs root to install: ${missing[*]} (run as root, or install sudo)" >&2
        exit 1
    }
    run_as_root=(sudo)
fi
echo "Installing Debian packages: ${missing[*]}"
"${run_as_root[@]}" apt-get update -qq
"${run_as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
