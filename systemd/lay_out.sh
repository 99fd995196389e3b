#!/bin/sh
# Lays dialerd out below $DESTDIR as a machine that runs it has it. Starts nothing, makes no user, asks no network but pip's.
# Used by `make install` and by `make deb`; all that follows comes from the Makefile.
#
#   WHEEL     the project's wheel             LOCK      requirements.lock
#   PIP       a python with pip               RUNNER    the python that dialerd will run with, by its path on that machine
#   PREFIX    where the program goes          BINDIR    where its command goes
#   UNITDIR, SYSUSERSDIR, TMPFILESDIR, SHAREDIR (completion)
set -eu

here=$(dirname "$0")
root=$here/..
home=$DESTDIR$PREFIX
next=$home.next

trap 'rm -rf "$next"' EXIT
rm -rf "$next"
mkdir -p "$(dirname "$home")"
umask 022

# What is installed is made beside what is there, and takes its place only when it is whole.
"$RUNNER" -m venv --without-pip "$next"
pip() { PYTHONDONTWRITEBYTECODE=1 "$PIP" -m pip --disable-pip-version-check --quiet --python "$next/bin/python" "$@"; }
# One requirement comes as source: it is built with the locked backend, not with whatever is newest today.
awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' "$LOCK" > "$next/backend.lock"
pip install --no-compile --require-hashes -r "$next/backend.lock"
pip install --no-compile --no-build-isolation --require-hashes -r "$LOCK"
pip install --no-compile --no-deps "$WHEEL"
superfluous=$("$next/bin/python" -I "$here/superfluous.py" dialerd)
# shellcheck disable=SC2086 # a list of names
[ -z "$superfluous" ] || pip uninstall --yes $superfluous

# The paths of this build have no place in what another machine, or another folder, is to run.
find "$next/bin" -mindepth 1 ! -name 'python*' -exec rm -rf {} +
rm -rf "$next/backend.lock" "$next/.gitignore" "$next/include"
sed -i '/^command = /d' "$next/pyvenv.cfg"
find "$next" -name direct_url.json -delete
find "$next" -name RECORD -exec sed -i '/direct_url\.json,/d; /^\.\.\/\.\.\/\.\.\/bin\//d' {} +
printf '%s\n' "#!$PREFIX/bin/python -I" 'from dialerd.cli import main' '' 'main(prog_name="dialerd")' > "$next/bin/dialerd"
chmod 755 "$next/bin/dialerd"
# By content, not by time: the same sources make the same files, and nothing has to be written at run time.
"$next/bin/python" -m compileall -q -j 0 -s "$next" -p "$PREFIX" --invalidation-mode unchecked-hash "$next/lib"

mkdir -p "$next/share/doc" "$next/share/dialerd"
cp "$root/README.md" "$root/CHANGELOG.md" "$root/LICENSE" "$next/share/doc/"
cp -R "$root/docs" "$root/asterisk-conf" "$root/freeswitch-conf" "$next/share/doc/"
cp "$root/config/dialerd.toml" "$next/share/dialerd/dialerd.toml"

mkdir -p "$home"
for part in bin lib lib64 pyvenv.cfg share; do
    rm -rf "${home:?}/$part"
    if [ -e "$next/$part" ] || [ -L "$next/$part" ]; then mv "$next/$part" "$home/$part"; fi
done

put() { # FILE TARGET: with the paths of this installation in it
    mkdir -p "$(dirname "$DESTDIR$2")"
    sed "s|/opt/dialerd\b|$PREFIX|g" "$1" > "$DESTDIR$2"
    chmod 644 "$DESTDIR$2"
}
put "$here/dialerd.service" "$UNITDIR/dialerd.service"
put "$here/sysusers.conf" "$SYSUSERSDIR/dialerd.conf"
put "$here/tmpfiles.conf" "$TMPFILESDIR/dialerd.conf"

mkdir -p "$DESTDIR$BINDIR"
ln -sfn "$PREFIX/bin/dialerd" "$DESTDIR$BINDIR/dialerd"

complete() { # SHELL FILE
    mkdir -p "$(dirname "$DESTDIR$SHAREDIR/$2")"
    _DIALERD_COMPLETE=${1}_source "$home/bin/python" -I -c 'from dialerd.cli import main; main(prog_name="dialerd")' \
        > "$DESTDIR$SHAREDIR/$2"
    chmod 644 "$DESTDIR$SHAREDIR/$2"
}
complete bash bash-completion/completions/dialerd
complete zsh zsh/site-functions/_dialerd
complete fish fish/vendor_completions.d/dialerd.fish
