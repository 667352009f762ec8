#!/usr/bin/env bash
# Unpack MySQL itself, which Debian has in unstable only, into a folder of its own, with the
# libraries that it wants. Nothing is installed: neither apt's sources nor what this machine
# has are touched. Then:
#
#     MYSQLD=$folder/mysqld pytest --backends=sql -k mysql
set -euo pipefail
folder=$(realpath -m "${1:?the folder to unpack into}")
[ ! -x "$folder/mysqld" ] || exit 0

state=$folder/apt root=$folder/root
mkdir -p "$state"/{lists/partial,archives/partial} "$root"
: >"$state/status" # as if nothing were installed, not even a libc
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] http://deb.debian.org/debian unstable main" >"$state/sources.list"
cat >"$state/conf" <<END
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$state";
Dir::State::status "$state/status";
Dir::Cache "$state";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
END
export APT_CONFIG=$state/conf
apt-get update -qq
apt-get install -qq -y --download-only mysql-server-core
for package in "$state"/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
done
rm -r "$state"

cat >"$folder/mysqld" <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
share=$root/usr/share/mysql
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries:$root/usr/lib/mysql/private" \
    "$root/usr/sbin/mysqld" "$@" --lc-messages-dir="$share" \
    --character-sets-dir="$share/charsets" --plugin-dir="$root/usr/lib/mysql/plugin"
END
chmod +x "$folder/mysqld"
