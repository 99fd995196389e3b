#!/bin/sh
# `make install`: lays dialerd out, and on a running machine (DESTDIR is empty) makes its user, keeps its configuration, brings an
# older installation's store to this version, and says what to do next. An installation that is there is replaced.
set -eu

here=$(dirname "$0")
root=$here/..
live=$([ -n "$DESTDIR" ] || echo yes)
config=/etc/dialerd/dialerd.toml
was_active=

say() { printf '%s\n' "$*"; }
managed() { [ "$live" ] && [ -d /run/systemd/system ]; }

if [ "$live" ]; then
    [ "$(id -u)" = 0 ] || { say "an installation needs root: sudo make install" >&2; exit 1; }
    case $(readlink -f "$RUNNER") in
    /home/* | /root/*)
        say "the service cannot see $(readlink -f "$RUNNER"): choose a python outside of home folders with RUNNER=" >&2
        exit 1
        ;;
    esac
fi

# The file as the last version brought it: whoever never touched it gets the new one, whoever did keeps theirs.
pristine=$(mktemp)
trap 'rm -f "$pristine"' EXIT
cp "$DESTDIR$PREFIX/share/dialerd/dialerd.toml" "$pristine" 2>/dev/null || rm -f "$pristine"

if managed && systemctl is-active --quiet dialerd; then
    was_active=yes
    say "dialerd runs: it is stopped (its calls in flight are followed to their end first), and started again after the upgrade"
    systemctl stop dialerd
fi

sh "$here/lay_out.sh"

if [ "$live" ]; then
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$SYSUSERSDIR/dialerd.conf"
    elif ! id dialerd >/dev/null 2>&1; then
        useradd --system --user-group --home-dir /var/lib/dialerd --no-create-home --shell /usr/sbin/nologin dialerd
    fi
    install -d -m 0750 -o root -g dialerd /etc/dialerd
    install -d -m 0700 -o dialerd -g dialerd /var/lib/dialerd
    own="-o root -g dialerd"
else
    mkdir -p "$DESTDIR/etc/dialerd"
    own=
fi

# shellcheck disable=SC2086 # $own is two options or none
if [ ! -e "$DESTDIR$config" ] || { [ -e "$pristine" ] && cmp -s "$pristine" "$DESTDIR$config"; }; then
    install -m 0640 $own "$root/config/dialerd.toml" "$DESTDIR$config"
    rm -f "$DESTDIR$config.new"
elif cmp -s "$root/config/dialerd.toml" "$DESTDIR$config" || { [ -e "$pristine" ] && cmp -s "$pristine" "$root/config/dialerd.toml"; }; then
    : # nothing is new in it
else
    install -m 0640 $own "$root/config/dialerd.toml" "$DESTDIR$config.new"
    say "$config was edited and stays as it is; this version's is beside it: $config.new"
fi

[ "$live" ] || exit 0

[ ! -e /etc/systemd/system/dialerd.service ] || [ "$UNITDIR" = /etc/systemd/system ] ||
    say "/etc/systemd/system/dialerd.service takes precedence over the unit of this version: remove it unless you wrote it"
if managed; then systemctl daemon-reload; fi

as_daemon() { runuser -u dialerd -- "$PREFIX/bin/dialerd" "$@" --config "$config"; }
if ! as_daemon migrate --existing; then
    say "the store was not migrated, and dialerd is not started. Mend what is said above, then: runuser -u dialerd -- dialerd migrate && systemctl start dialerd" >&2
    exit 1
fi
if [ "$was_active" ]; then
    systemctl start dialerd
    say "dialerd $("$PREFIX/bin/dialerd" --version | cut -d' ' -f2) runs"
    exit 0
fi
say "dialerd is installed in $PREFIX, and is not started. Say in $config where your PBX is; then:"
say "    sudo -u dialerd dialerd doctor"
say "    sudo systemctl enable --now dialerd"
say "    sudo -u dialerd dialerd keys create --tenant default --role admin"
