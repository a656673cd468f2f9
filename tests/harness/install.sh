#!/usr/bin/env bash
# What the Makefile needs from the machine.
#   install.sh packages             the Debian packages of the components that the tests start
#   install.sh venv PYTHON FOLDER   a virtual environment, with the Debian package for it where it is missing
# Installs only as root or where sudo asks for no password; otherwise it says what to install and goes on: the tests
# then skip what is missing and name it. What apt-get says goes to var/apt.log. Starts no service, and stops those that
# an installation started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# command or file that tells whether it is there, then its packages
COMPONENTS=(
    "sipp sip-tester"
    "slapd slapd"
    "ldapsearch ldap-utils"
    "freeradius freeradius"
    "radclient freeradius-utils"
    "/usr/lib/freeradius/rlm_ldap.so freeradius-ldap"
    "baresip baresip-core"
    "mmdebstrap mmdebstrap"
    "openssl openssl"
    "sipsak sipsak"
    "linphonec linphone-cli"
    "chromium chromium"
    "npm npm"
    "valgrind valgrind"
    "/usr/lib/postgresql/*/bin/postgres postgresql"
)
declare -A SERVICES=([slapd]=slapd [freeradius]=freeradius [postgresql]=postgres) # service and its program
PATH=$PATH:/usr/sbin:/sbin

say() { echo "install: $*" >&2; }

as_root() {
    if ((EUID == 0)); then "$@"
    else sudo -n "$@"; fi
}

can_install() { [[ $(type -P apt-get) ]] && as_root true 2>/dev/null; }

present() { # COMMAND-or-PATTERN
    if [[ $1 == /* ]]; then compgen -G "$1" >/dev/null
    else [[ -n $(type -P "$1") ]]; fi
}

running() { # PROGRAM
    [[ -n $(type -P pgrep) ]] && pgrep -x "$1" >/dev/null
}

apt_install() { # PACKAGE...
    local service before=() log=var/apt.log
    mkdir -p var
    for service in "${!SERVICES[@]}"; do
        if running "${SERVICES[$service]}"; then before+=("$service"); fi
    done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 ||
        say "apt-get update failed; trying with the lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        return 1
    }
    for service in "${!SERVICES[@]}"; do
        if [[ " ${before[*]} " != *" $service "* ]] && running "${SERVICES[$service]}"; then
            say "stopping the packaged $service that the installation started"
            as_root service "$service" stop >&2 || true
        fi
    done
}

packages() {
    local entry missing=()
    for entry in "${COMPONENTS[@]}"; do
        if ! present "${entry%% *}"; then missing+=("${entry#* }"); fi
    done
    if ((${#missing[@]} == 0)); then return 0; fi
    if can_install; then
        say "apt-get install ${missing[*]}"
        apt_install "${missing[@]}" || say "not all of these could be installed: ${missing[*]}"
    else
        say "not root and no sudo: tests that need these are skipped. To run them:"
        say "    apt-get install -y --no-install-recommends ${missing[*]}"
    fi
}

venv() { # PYTHON FOLDER
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        say "$1 must be Python 3.11 or newer; choose another with: make PYTHON=python3.12"
        exit 1
    }
    if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$1" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
        can_install || {
            say "$1 cannot make a virtual environment; first: apt-get install -y $package"
            exit 1
        }
        apt_install "$package" python3-venv
    fi
    if [[ ! -x $2/bin/pip ]]; then "$1" -m venv "$2"; fi
}

case ${1:-} in
packages) packages ;;
venv) venv "$2" "$3" ;;
*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
