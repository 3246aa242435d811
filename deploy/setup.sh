#!/usr/bin/env bash
# Brings this machine and this clone to where `weft up` and the tests can run. Idempotent; a second run costs
# milliseconds, because a stamp keyed by the lock file and this script says that there is nothing to do.
#
#   1. system packages that are missing, by apt; nothing they bring is started, now or at boot
#   2. the system user `weft` that servers run under (only when we are root)
#   3. .venv with the locked packages and this project, editable
#   4. the xDS descriptors, made from their pinned wheel
#   5. the console's page, built by the Node of .venv from console/ into build/console
#
# `deploy/setup.sh bench` installs what the benches need as well: a load generator, a browser, and what Weft is compared
# with; `deploy/setup.sh tests` what tests and checks need: a browser, the tools of the page, schemas of compose and
# Kubernetes, and what the example stands on.
# Used by `make up`, `make test` and `make check`. Needs Debian 12 and Python 3.11 or 3.12; sudo when not root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

venv=.venv
stamp=$venv/.weft-setup
user=weft
packages=(etcd-server etcd-client memcached rabbitmq-server postgresql patroni prometheus prometheus-alertmanager prometheus-postgres-exporter python3-venv)
groups=()
mode=${1-}
case $mode in
  "") ;;
  bench)
    stamp=$venv/.weft-setup-bench
    packages+=(nghttp2-client chromium)
    groups=(--group bench --group browser)
    ;;
  tests)
    stamp=$venv/.weft-setup-tests
    packages+=(chromium)
    groups=(--group browser --group ship --group examples)
    ;;
  *)
    printf 'setup: unknown argument %s; there are `bench` and `tests`\n' "$1" >&2
    exit 2
    ;;
esac
units=(etcd memcached rabbitmq-server epmd.service epmd.socket patroni prometheus prometheus-alertmanager prometheus-postgres-exporter)

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: %s\n' "$1" >&2
  printf '       %s\n' "$2" >&2
  exit 1
}

# --- is there anything to do? -----------------------------------------------------------------------------------

wanted() {
  # What set-up depends on. The clone's place is in it, because scripts in .venv and the editable install name it.
  { sha256sum uv.lock pyproject.toml deploy/setup.sh protos/py/make_xds.py 2>/dev/null; pwd; } | sha256sum | cut -d' ' -f1
}

have_servers() {
  local initdb=(/usr/lib/postgresql/*/bin/initdb)
  [[ -x /usr/bin/etcd && -x /usr/bin/memcached && -x /usr/bin/prometheus && -x /usr/bin/epmd ]] &&
    [[ -x /usr/bin/prometheus-alertmanager && -x /usr/bin/prometheus-postgres-exporter ]] &&
    [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server && -x ${initdb[0]} && -x /usr/bin/patroni ]]
}

have_user() { [[ $EUID -ne 0 ]] || id -u "$user" >/dev/null 2>&1; }

have_load_generator() { [[ ${1-} != bench ]] || command -v h2load >/dev/null; }

have_browser() { [[ -z ${1-} ]] || [[ -x /usr/bin/chromium ]]; }

page=build/console
page_wanted() {
  # What the page is built from; the machine's own things in the folder are not.
  find console docs/runbooks -path console/node_modules -prune -o -path console/test -prune -o -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}
have_page() { [[ -f $page/.built && $(<"$page/.built") == "$(page_wanted)" ]]; }
modules=console/node_modules
# With `tests` all of its packages, else those that build it.
modules_wanted() { echo "${1:-page} $(sha256sum <console/package-lock.json)"; }
have_modules() { [[ $(cat "$modules/.weft" 2>/dev/null || true) == @("$(modules_wanted "${1-}")"|"$(modules_wanted tests)") ]]; }

up_to_date() {
  [[ -f $stamp && $(<"$stamp") == "$(wanted)" && -x $venv/bin/weft && -f protos/gen/xds.binpb ]] &&
    have_servers && have_user && have_load_generator "$mode" && have_browser "$mode" && have_page &&
    { [[ $mode != tests ]] || have_modules tests; }
}

if up_to_date; then
  exit 0
fi

# Two set-ups of one clone at once would tread on each other; the second one waits and then finds nothing to do.
exec 9<"deploy/setup.sh"
if ! flock -n 9; then
  say "another set-up of this clone is running; waiting for it"
  flock 9
fi
if up_to_date; then
  exit 0
fi

# --- 1. system packages -----------------------------------------------------------------------------------------

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  else
    sudo "$@"
  fi
}

installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true) == installed ]]; }

missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
  done
elif ! have_servers; then
  die "this is not Debian, and some of the servers are missing" \
    "install what these Debian packages hold, at the same paths: ${packages[*]}"
fi

forbid_start=/usr/sbin/policy-rc.d
forbade=
allow_start() {
  if [[ -n $forbade ]]; then
    as_root rm -f "$forbid_start"
    forbade=
  fi
}
trap allow_start EXIT

install_packages() {
  if [[ $EUID -ne 0 ]] && ! command -v sudo >/dev/null; then
    die "these packages are missing, and neither are you root nor is there sudo: $*" \
      "as root, run: apt-get install $*"
  fi
  local log
  log=$(mktemp)
  for package in "$@"; do
    say "installing $package"
  done
  # Debian starts what it installs. Ours get ports, data and users of their own, so nothing may start here; a policy
  # that is already there is the administrator's and is left alone.
  if [[ ! -e $forbid_start ]]; then
    forbade=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$forbid_start" >/dev/null
    as_root chmod 755 "$forbid_start"
  fi
  apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
      -o Dpkg::Options::=--force-confold --no-install-recommends "$@" >>"$log" 2>&1
  }
  apt update || true # an old index may do; what it cannot find fails below, with the reason
  if [[ " $* " == *" postgresql "* ]]; then
    # Otherwise the package would make a cluster on port 5432, and start it at boot.
    apt install postgresql-common || install_failed "$log"
    as_root sed -i -E 's/^#? *create_main_cluster *=.*/create_main_cluster = false/' \
      /etc/postgresql-common/createcluster.conf
    grep -q '^create_main_cluster = false' /etc/postgresql-common/createcluster.conf ||
      echo 'create_main_cluster = false' | as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  apt install "$@" || install_failed "$log"
  if command -v systemctl >/dev/null; then
    for unit in "${units[@]}"; do
      as_root systemctl disable "$unit" >/dev/null 2>&1 || true # not every package has one
    done
  fi
  allow_start
  rm -f "$log"
}

install_failed() {
  tail -n 20 "$1" >&2
  die "apt could not install the packages; its last lines are above, all of them in $1" \
    "check the network and /etc/apt/sources.list, then run this again"
}

if ((${#missing[@]})); then
  # A service whose package was here before is somebody else's: it stays enabled or not, as it was.
  ours=()
  for unit in "${units[@]}"; do
    package=${unit%%.*}
    case $package in etcd) package=etcd-server ;; epmd) package=erlang-base ;; esac
    installed "$package" || ours+=("$unit")
  done
  units=("${ours[@]}")
  install_packages "${missing[@]}"
fi
have_servers || die "some server programs are missing although their packages are installed" \
  "reinstall them: apt-get install --reinstall ${packages[*]}"

# --- 2. the system user -----------------------------------------------------------------------------------------

if ! have_user; then
  say "adding the system user $user"
  useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user" ||
    die "the system user $user could not be added" "add it: useradd --system $user"
fi

# --- 3. .venv ---------------------------------------------------------------------------------------------------

unset PYTHONDONTWRITEBYTECODE # compiled once here, or compiled again at each of thirty starts

usable_python() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in python3.11 python3 python3.12 /usr/bin/python3; do
    if command -v "$candidate" >/dev/null && usable_python "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  die "no Python 3.11 or 3.12 was found" "install one: apt-get install python3 python3-venv"
}

if [[ ! -x $venv/bin/python ]] || ! usable_python "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  say "making $venv"
  rm -rf "$venv"
  python=$(find_python)
  "$python" -m venv "$venv" || die "$python could not make $venv" "install its venv: apt-get install python3-venv"
fi

uv_wanted=$(sed -n 's/^ *"uv==\([0-9.]*\)".*/\1/p' pyproject.toml)
if [[ $("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2 || true) != "$uv_wanted" ]]; then
  say "installing uv $uv_wanted"
  "$venv/bin/python" -m pip --quiet --disable-pip-version-check install "uv==$uv_wanted" ||
    die "uv $uv_wanted could not be installed" "check that this machine reaches the package index (PIP_INDEX_URL, proxy)"
fi

say "installing the locked packages (about 20 s the first time)"
UV_PROJECT_ENVIRONMENT=$root/$venv UV_PYTHON_DOWNLOADS=never \
  "$venv/bin/uv" sync --quiet --frozen --inexact "${groups[@]}" --compile-bytecode --python "$root/$venv/bin/python" ||
  die "the locked packages could not be installed" "check that this machine reaches the package index (UV_INDEX_URL, proxy)"
"$venv/bin/python" -m compileall -q deploy gateway lb svc worker protos/gen protos/py protos/clients/python || true # a speed-up, no more

# --- 4. xDS descriptors -----------------------------------------------------------------------------------------

say "making the xDS descriptors"
"$venv/bin/python" protos/py/make_xds.py >&2 ||
  die "protos/gen/xds.binpb could not be made" "its wheel comes from the package index; check that it is reached"

# --- 5. the console ---------------------------------------------------------------------------------------------

build_page() {
  if ! have_modules "${mode#bench}"; then
    say "installing the console's packages"
    if [[ $mode == tests ]]; then
      console/npm ci --silent --no-audit --no-fund >&2 || return 1
    else
      console/npm ci --silent --no-audit --no-fund --omit=dev >&2 || return 1
    fi
    modules_wanted "${mode#bench}" >"$modules/.weft"
  fi
  if ! have_page; then
    say "building the console"
    console/npm run --silent build -- --logLevel warn >&2 || return 1
    page_wanted >"$page/.built"
  fi
}

if ! build_page; then
  [[ $mode != tests ]] || die "the console could not be built; why stands above" \
    "check that this machine reaches the package registry of npm (its setting \`registry\`, proxy)"
  say "the console could not be built; the mesh runs without its page, and the next set-up tries again"
fi

wanted >"$stamp"
say "done"
