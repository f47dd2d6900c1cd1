#!/bin/sh
# Two hosts as network namespaces on this machine, from `cluster init` to a page that is fetched
# across. Nothing of the machine is touched: everything is in namespaces of its own and ends with
# this script. On two real machines the same commands are documented in docs/cluster.md.
#
#   sudo examples/two-hosts.sh [DIRECTORY OF THE EXECUTABLES]
#
# Needs etcd (Debian: etcd-server), iproute2, util-linux, curl and python3.
set -eu

# Where netd is: as told, as built here, or as installed.
for place in "${1:-}" "$(dirname "$0")/../target/dist" "$(dirname "$0")/../target/debug"; do
	if [ -n "$place" ] && [ -x "$place/netd" ]; then
		PATH=$(cd "$place" && pwd):$PATH
		break
	fi
	if [ -n "${1:-}" ]; then break; fi
done
if [ -n "${1:-}" ] && [ ! -x "$1/netd" ] || ! command -v netd >/dev/null || ! command -v netctl >/dev/null; then
	echo "netd and netctl are not in ${1:-target/dist and not installed}: build them with make build" >&2
	exit 1
fi
export PATH

# A mount and a process namespace, so that /run is ours and all processes end with the script.
if [ -z "${TWO_HOSTS:-}" ]; then
	TWO_HOSTS=1 exec unshare --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
mount -t tmpfs tmpfs /run
mkdir /run/netns

say() { printf '\n== %s\n' "$*"; }

# host NAME COMMAND...: does something on a host.
host() { name=$1; shift; ip netns exec "$name" env NETD_SOCKET="/run/$name/netd.sock" "$@"; }

say "an underlay, and two hosts on it"
ip netns add wire
ip -n wire link add wire type bridge
ip -n wire link set wire up
n=0
for name in one two; do
	n=$((n + 1))
	ip netns add $name
	ip -n $name link set lo up
	ip -n wire link add $name type veth peer name eth0 netns $name
	ip -n wire link set $name master wire up
	ip -n $name address add 198.51.100.$n/24 dev eth0
	ip -n $name link set eth0 up
	printf 'node_name = "%s"\n' $name >/run/$name.toml
	host $name netd --run-dir /run/$name --state-dir /run/$name-state \
		--config /run/$name.toml 2>/run/$name.log &
	netd=$!
	until host $name netctl version >/dev/null 2>&1; do
		kill -0 $netd 2>/dev/null || { echo "netd of host $name ended:" >&2; cat /run/$name.log >&2; exit 1; }
		sleep 0.05
	done
done

say "one: netctl cluster init"
host one netctl cluster init --advertise-addr 198.51.100.1
token=$(host one netctl cluster token create --uses 1 --quiet)

say "two: netctl cluster join"
host two netctl cluster join --token "$token" 198.51.100.1:2377
host one netctl node ls

say "one: netctl network create -d overlay shop"
host one netctl network create -d overlay shop
until host two netctl network ls -q -f name=shop | grep -q .; do sleep 0.05; done

say "one: a web server;  two: who fetches its page"
mkdir /run/page
echo 'hello from the other host' >/run/page/index.html
host one netctl run --network shop --name web -- \
	python3 -m http.server --directory /run/page 80 >/run/web.log 2>&1 &
until host two netctl run --network shop --name client -- \
	curl --silent --fail --max-time 2 http://web/; do sleep 0.2; done
