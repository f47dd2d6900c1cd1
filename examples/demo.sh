#!/usr/bin/env bash
# Shows what netd does: two containers that find each other by name, and a port of one of them
# that the outside reaches. All of it happens in namespaces of its own; nothing of this machine's
# links, rules, /run and /var is touched, and nothing is left.
set -euo pipefail

if [[ -z ${NETD_DEMO_INSIDE-} ]]; then
    if (( EUID != 0 )); then echo "the demo makes namespaces: run it as root" >&2; exit 1; fi
    for tool in netd netctl netd-bridge ip nft ping; do
        command -v "$tool" >/dev/null || { echo "$tool is missing: make build, make deps" >&2; exit 1; }
    done
    before=$(ip -o link | wc -l)
    NETD_DEMO_INSIDE=1 unshare --net --mount --pid --fork --kill-child --propagation private "$0"
    [[ $(ip -o link | wc -l) == "$before" ]] || { echo "links were left" >&2; exit 1; }
    echo "Nothing was left on this machine."
    exit
fi

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[[ -t 1 ]] || say() { printf '\n%s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
# Waits for what takes a moment, at most ten seconds.
await() { local end=$((SECONDS + 10)); until "$@"; do ((SECONDS < end)) || return 1; done; }

# A machine of our own: its /proc, /run and /var/lib, and a neighbour on its LAN.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lib
mount --bind /run/lib /var/lib
ip link set lo up
ip netns add lan
ip link add uplink type veth peer name eth0 netns lan
ip addr add 192.0.2.1/24 dev uplink
ip link set uplink up
ip -n lan addr add 192.0.2.2/24 dev eth0
ip -n lan link set eth0 up
ip route add default via 192.0.2.2

say "netd starts"
netd --log-level warn &
netd=$!
await test -S /run/netd/netd.sock
await netctl status >/dev/null 2>&1
show netctl network create --label demo app

say "A web server and a client, each a container on the network app"
server='
import http.server
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"Hello {self.client_address[0]}, this is web.\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 80), Hello).serve_forever()
'
if command -v python3 >/dev/null; then
    serve=(python3 -c "$server")
else
    # Perl is part of every Debian system.
    serve=(perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die $!;
        while (my $c = $s->accept) {
            while (my $l = <$c>) { last if $l =~ /^\r?\n$/ }
            my $b = "Hello " . $c->peerhost . ", this is web.\n";
            print $c "HTTP/1.0 200 OK\r\nContent-Length: " . length($b) . "\r\n\r\n$b"; close $c;
        }')
fi
echo '$ netctl run --network app --name web --alias www -p 8080:80 -- (a web server) &'
netctl run --network app --name web --alias www -p 8080:80 -- "${serve[@]}" &
web=$!
attached() { [[ $(netctl network inspect app) == *'"Name": "web"'* ]]; }
await attached

# Fetches a page with nothing but bash.
fetch='exec 3<>"/dev/tcp/$1/$2" || exit 1; printf "GET / HTTP/1.0\r\n\r\n" >&3; sed "1,/^\r*$/d" <&3'
ready() { netctl run --network app --name probe -- bash -c "$fetch" fetch web 80 >/dev/null 2>&1; }
await ready

say "By name, from another container"
echo '$ netctl run --network app --name client -- (fetch http://www/)'
netctl run --network app --name client -- bash -c "$fetch" fetch www 80

say "Through the published port, from a neighbour on the LAN; its address is kept"
echo '$ ip netns exec lan (fetch http://192.0.2.1:8080/)'
ip netns exec lan bash -c "$fetch" fetch 192.0.2.1 8080

say "A runtime in a page of shell, which knows nothing but netd-bridge"
echo '$ examples/runtime.sh shell app -- ping -c 1 web'
"$(dirname "$0")/runtime.sh" shell app -- ping -c 1 -W 2 web

say "What there is"
show netctl network ls
show netctl network inspect app
show netctl endpoint ls

say "Everything is taken down"
kill "$web"
wait "$web" || true
show netctl network rm app
show netctl endpoint ls
left=$(ip -o link | grep -c ': nd' || true)
await eval '! ip -o link | grep -q ": nd"' || { echo "$left links were left" >&2; exit 1; }
kill "$netd"
wait "$netd" || true
