#!/usr/bin/env bash
# A container runtime in a page of shell. It needs nothing of netd but one executable: it runs
# netd-bridge with a request on its standard input and reads the answer from its standard output.
#
#   examples/runtime.sh NAME NETWORK [-p HOST_PORT:PORT]... -- COMMAND...
#
# The container is a process with network, mount and UTS namespaces of its own. NETD_SOCKET says
# where netd listens, NETD_PLUGIN which plugin to run (netd-bridge).
set -euo pipefail

plugin=${NETD_PLUGIN:-netd-bridge}
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

[[ $# -ge 4 ]] || usage
name=$1 network=$2
shift 2
ports=()
while [[ ${1-} == -p ]]; do
    ports+=("{\"host_port\":${2%%:*},\"container_port\":${2##*:}}")
    shift 2
done
[[ ${1-} == -- && $# -ge 2 ]] || usage
shift

# One request on one line, one answer: what the plugin prints. Its exit code says what went wrong.
call() { # METHOD PARAMS
    printf '{"jsonrpc":"2.0","id":1,"method":"%s","params":%s}\n' "$1" "${2//$'\n'/ }" | "$plugin"
}

# The first thing of the container: it waits for its network, then becomes the command.
work=$(mktemp -d)
mkfifo "$work/go"
unshare --net --mount --uts -- bash -c '
    hostname "$1"; read -r _ <"$2/go"
    mount --bind "$2/resolv.conf" /etc/resolv.conf
    shift 2; exec "$@"
' container "$name" "$work" "$@" &
pid=$!
container=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

clean_up() {
    status=$?
    call endpoint.detach "{\"container\":\"$container\"}" >/dev/null || status=1
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT

# The process has left our namespace when its own is another.
until [[ $(readlink "/proc/$pid/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do
    kill -0 "$pid"
done

answer=$(call endpoint.attach "{
    \"network\": \"$network\",
    \"container\": {\"id\": \"$container\", \"name\": \"$name\"},
    \"netns\": \"/proc/$pid/ns/net\",
    \"ports\": [$(IFS=,; echo "${ports[*]-}")]
}") || { kill "$pid"; echo "$answer" >&2; exit 1; }

# Where the container asks for names: the addresses in "dns".
servers=$(sed -n 's/.*"dns":\[\([^]]*\)\].*/\1/p' <<<"$answer" | tr -d '"' | tr ',' '\n')
for server in $servers; do echo "nameserver $server"; done >"$work/resolv.conf"

echo go >"$work/go"
wait "$pid"
