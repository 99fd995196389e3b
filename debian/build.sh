#!/bin/sh
# `make deb`: lays dialerd out below build/deb and packs it. The interpreter's minor version is part of what the package needs, for
# compiled wheels fit one only. No debhelper: what gets in is what systemd/lay_out.sh lays out, the same as `make install`.
set -eu

here=$(dirname "$0")
root=$here/..
tree=$PWD/build/deb
arch=$(dpkg --print-architecture)
python=$("$RUNNER" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next=${python%.*}.$((${python#*.} + 1))

[ "$RUNNER" = /usr/bin/python3 ] || { echo "a package is built with Debian's own python3" >&2; exit 1; }
rm -rf "$tree"
umask 022
mkdir -p "$tree/DEBIAN" dist

DESTDIR=$tree PREFIX=/opt/dialerd BINDIR=/usr/bin SHAREDIR=/usr/share UNITDIR=/lib/systemd/system \
    SYSUSERSDIR=/usr/lib/sysusers.d TMPFILESDIR=/usr/lib/tmpfiles.d sh "$root/systemd/lay_out.sh"
mkdir -p "$tree/usr/share/zsh/vendor-completions"
mv "$tree/usr/share/zsh/site-functions/_dialerd" "$tree/usr/share/zsh/vendor-completions/_dialerd"
rmdir "$tree/usr/share/zsh/site-functions"

mkdir -p "$tree/etc/dialerd" "$tree/usr/share/doc/dialerd" "$tree/usr/share/lintian/overrides"
install -m 0644 "$root/config/dialerd.toml" "$tree/etc/dialerd/dialerd.toml"
install -m 0644 "$here/lintian-overrides" "$tree/usr/share/lintian/overrides/dialerd"
install -m 0644 "$here/copyright" "$tree/usr/share/doc/dialerd/copyright"
cat "$root/LICENSE" >> "$tree/usr/share/doc/dialerd/copyright"
gzip -9n < "$root/CHANGELOG.md" > "$tree/usr/share/doc/dialerd/changelog.gz"
printf 'dialerd (%s) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$VERSION-1" "$(sed -n 's/^Maintainer: //p' "$here/control.in")" \
    "$(date --utc --date="@$SOURCE_DATE_EPOCH" --rfc-email)" | gzip -9n > "$tree/usr/share/doc/dialerd/changelog.Debian.gz"

echo /etc/dialerd/dialerd.toml > "$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 0755 "$here/$script" "$tree/DEBIAN/$script"; done
sed -e "s/@VERSION@/$VERSION-1/; s/@ARCH@/$arch/; s/@PYTHON@/$python/; s/@NEXT@/$next/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$tree" | cut -f1)/" "$here/control.in" > "$tree/DEBIAN/control"
(cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)

dpkg-deb --root-owner-group -z3 --build "$tree" "dist/dialerd_${VERSION}-1_$arch.deb"
