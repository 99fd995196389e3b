#!/bin/sh
# `make uninstall`: takes back what `make install` put there, and nothing else. Configuration, data and user stay unless PURGE=1.
set -eu

live=$([ -n "$DESTDIR" ] || echo yes)
if [ "$live" ]; then
    [ "$(id -u)" = 0 ] || { echo "this needs root: sudo make uninstall" >&2; exit 1; }
    if [ -d /run/systemd/system ] && [ -e "$UNITDIR/dialerd.service" ]; then
        systemctl disable --now --quiet dialerd
    fi
fi

# An empty folder that we may have made goes too; one that holds something of others' stays.
drop_empty() { rmdir --ignore-fail-on-non-empty --parents "$1" 2>/dev/null || :; }

for file in "$UNITDIR/dialerd.service" "$SYSUSERSDIR/dialerd.conf" "$TMPFILESDIR/dialerd.conf" \
    "$SHAREDIR/bash-completion/completions/dialerd" "$SHAREDIR/zsh/site-functions/_dialerd" \
    "$SHAREDIR/fish/vendor_completions.d/dialerd.fish"; do
    rm -f "$DESTDIR$file"
    drop_empty "$(dirname "$DESTDIR$file")"
done
if [ "$(readlink "$DESTDIR$BINDIR/dialerd" || :)" = "$PREFIX/bin/dialerd" ]; then
    rm -f "$DESTDIR$BINDIR/dialerd"
    drop_empty "$DESTDIR$BINDIR"
fi
if [ -e "$DESTDIR$PREFIX/bin/dialerd" ]; then
    for part in bin lib lib64 pyvenv.cfg share; do rm -rf "${DESTDIR:-}${PREFIX:?}/$part"; done
    drop_empty "$DESTDIR$PREFIX"
fi
if [ "$live" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

if [ "${PURGE:-}" = 1 ]; then
    rm -rf "$DESTDIR/etc/dialerd" "$DESTDIR/var/lib/dialerd"
    if [ "$live" ] && id dialerd >/dev/null 2>&1; then userdel dialerd; fi
    if [ "$live" ] && getent group dialerd >/dev/null; then groupdel dialerd; fi
elif [ -e "$DESTDIR/etc/dialerd" ] || [ -e "$DESTDIR/var/lib/dialerd" ]; then
    echo "configuration (/etc/dialerd), data (/var/lib/dialerd) and the user dialerd stay; make uninstall PURGE=1 removes them too"
fi
