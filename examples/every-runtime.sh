#!/bin/sh
# One network with everybody on it: a container of Docker, one of Podman, one of containerd, and a bare
# process. Each fetches the pages of the others by name, and their ports are of one range of the host.
# What it makes it takes away again.
#
#   sudo examples/every-runtime.sh
#
# Needs netd running, with dockerd and Podman and containerd told of it: `netctl docker install`,
# `netctl cni install` (Podman with its CNI backend, or `-d netd-bridge` with netavark), both daemons
# started again. The words in capitals may be set to other programs and images.
set -eu

DOCKER=${DOCKER:-docker}
DOCKER_IMAGE=${DOCKER_IMAGE:-docker.io/library/alpine}
PODMAN=${PODMAN:-podman}
PODMAN_IMAGE=${PODMAN_IMAGE:-docker.io/library/alpine}
CTR=${CTR:-ctr}
CTR_IMAGE=${CTR_IMAGE:-docker.io/library/alpine:latest}
NETWORK=${NETWORK:-everyone}
CNI_DIR=${CNI_DIR:-/etc/cni/net.d}
FETCH=${FETCH:-wget -q -T 5 -O -}

say() { printf '\n== %s\n' "$*"; }
# await COMMAND...: waits for what takes a moment, at most twenty seconds.
await() { end=$(($(date +%s) + 20)); until "$@"; do [ "$(date +%s)" -lt "$end" ] || return 1; sleep 0.2; done; }
# serve NAME: what a container does that greets whoever comes.
serve() { echo "mkdir -p /tmp/$1; echo I am $1 >/tmp/$1/index.html; exec busybox httpd -f -p 80 -h /tmp/$1"; }

clean() {
	set +e
	[ -z "${native:-}" ] || kill "$native"
	$CTR task kill --signal KILL wooden-box
	$PODMAN rm --force --time 0 seal
	$DOCKER rm --force whale
	[ -z "${native:-}" ] || wait "$native"
	[ -z "${boxed:-}" ] || wait "$boxed"
	$DOCKER network rm "$NETWORK"
	netctl network rm --cni-dir "$CNI_DIR" "$NETWORK"
	rm -f "$resolv"
} >/dev/null 2>&1
resolv=$(mktemp)
trap clean EXIT

say "a network, in a list for those who speak CNI, and in Docker"
netctl network create --cni --cni-dir "$CNI_DIR" "$NETWORK"
first=$(ls "$CNI_DIR" | grep -E '\.(conf|conflist|json)$' | sort | head -n 1)
if [ "$first" != "$NETWORK.conflist" ]; then
	echo "containerd takes $CNI_DIR/$first, which comes first: set NETWORK to a name that comes before it" >&2
	exit 1
fi
of() { netctl network inspect "$NETWORK" 2>/dev/null | sed -n "s/.*\"$1\": \"\(.*\)\".*/\1/p" | head -1; }
subnet=$(of Subnet)
$DOCKER network create -d netd --ipam-driver netd --ipam-opt "network=$NETWORK" \
	-o "network=$NETWORK" --subnet "$subnet" "$NETWORK"
# Says so where Docker's containers would not resolve the others.
netctl network inspect "$NETWORK" >/dev/null

say "Docker, Podman, containerd and a bare process, each with a server"
$DOCKER run --detach --name whale --network "$NETWORK" -p 8001:80 ${DOCKER_OPTIONS:-} \
	$DOCKER_IMAGE sh -c "$(serve whale)"
$PODMAN run --detach --name seal --network "$NETWORK" -p 8002:80 ${PODMAN_OPTIONS:-} \
	$PODMAN_IMAGE sh -c "$(serve seal)"
netctl run --network "$NETWORK" --name native -p 8003:80 -- sh -c "$(serve native)" &
native=$!
# ctr leaves the resolver to whoever runs it.
echo "nameserver $(of Gateway)" >"$resolv"
$CTR run --cni --rm --mount "type=bind,src=$resolv,dst=/etc/resolv.conf,options=rbind:ro" \
	${CTR_OPTIONS:-} $CTR_IMAGE wooden-box sh -c "$(serve wooden-box)" &
boxed=$!

say "each reaches each by name"
# A container of containerd's is called after its namespace, too.
for server in whale seal native default-wooden-box; do
	await $DOCKER exec whale $FETCH "http://$server/"
	await $PODMAN exec seal $FETCH "http://$server/"
	await $CTR task exec --exec-id fetch wooden-box $FETCH "http://$server/"
	await netctl run --network "$NETWORK" -- $FETCH "http://$server/"
done

say "their ports are of one range, and nobody gets another's"
netctl endpoint ls
if netctl run --network "$NETWORK" -p 8001:80 -- true; then
	echo "port 8001 was given out twice" >&2
	exit 1
fi
