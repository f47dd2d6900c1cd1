#!/usr/bin/env python3
"""A driver for netd in two pages: a Linux bridge for each network, made with `ip`.

netd starts a driver once, writes requests to its standard input and reads the answers from its
standard output, one JSON-RPC 2.0 document per line (docs/protocol.md). Installed as
/usr/libexec/netd/netd-pybridge it serves what `netctl network create -d pybridge` makes;
`netctl driver test examples/driver.py` tries it on hosts of its own.

A driver stores nothing: each call brings the network and the endpoint whole. What it makes it knows
again by its link group, whatever became of it in between.
"""

import ctypes, json, os, socket, subprocess, sys
from contextlib import contextmanager

GROUP = "7079"  # its links, and nobody else's


class Refusal(Exception):
    """What the caller is told: a kind to branch on, and a sentence."""

    CODES = {"invalid": -32602, "not_found": -32001, "exists": -32002, "unsupported": -32601,
             "kernel": -32007}

    def __init__(self, kind, sentence, code=None):
        super().__init__(sentence)
        self.kind, self.code = kind, code or self.CODES[kind]


# --- the kernel ------------------------------------------------------------------------------

def ip(*words):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        kind = "exists" if "File exists" in done.stderr else "kernel"
        raise Refusal(kind, f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def links(*words):
    # What does not match is there as well, and empty.
    return [link for link in json.loads(ip("-j", "-d", "link", "show", *words) or "[]") if link]


def own_links():
    return {link["ifname"]: link for link in links("group", GROUP)}


@contextmanager
def inside(netns):
    """In the namespace: what is done here is done there."""
    def enter(file):
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000):  # CLONE_NEWNET
            raise Refusal("invalid", f"{netns} is no network namespace")
    with open("/proc/thread-self/ns/net") as home, open(netns) as there:
        enter(there)
        try:
            yield
        finally:
            enter(home)


def cookie():
    with socket.socket() as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)


# --- networks and endpoints --------------------------------------------------------------------

def gateways(network):
    return [f"{s['gateway']}/{s['subnet'].split('/')[1]}"
            for s in network.get("subnets", []) if s.get("gateway")]


def host_end(endpoint):
    return "nd" + endpoint["id"][:12]


def mtu_of(network):
    return network.get("mtu") or 1500


def network_up(network):
    """Gives what was put right."""
    bridge, done = network["link"], []
    there = {link["ifname"]: link for link in links()}.get(bridge)
    if there and there.get("group") != GROUP:
        raise Refusal("exists", f"a link {bridge} exists already and is not this driver's")
    if not there:
        ip("link", "add", bridge, "group", GROUP, "mtu", mtu_of(network), "type", "bridge")
        done.append(f"made the bridge {bridge}")
    elif "UP" not in there["flags"]:
        done.append(f"set {bridge} up")
    ip("link", "set", bridge, "up")
    has = [f"{a['local']}/{a['prefixlen']}"
           for a in json.loads(ip("-j", "address", "show", bridge))[0]["addr_info"]]
    for address in gateways(network):
        if address not in has:
            ip("address", "add", address, "dev", bridge, *["nodad"] * (":" in address))
            done.append(f"gave {bridge} the address {address}")
    return done


def attach(network, endpoint, netns):
    if not os.path.exists(netns):
        raise Refusal("not_found", f"network namespace {netns} not found")
    with inside(netns):
        known = cookie()
    if known == cookie():
        raise Refusal("invalid", f"{netns} is the host's own network namespace")
    network_up(network)
    end, name, mac = host_end(endpoint), endpoint["ifname"], endpoint["mac"]
    mtu = mtu_of(network)
    # Both ends in place: to move or rename a link later takes longer than all the rest.
    ip("link", "add", end, "mtu", mtu, "group", GROUP, "master", network["link"], "up", "type",
       "veth", "peer", "name", name, "netns", netns, "address", mac, "mtu", mtu)
    try:
        with inside(netns):
            ip("link", "set", "lo", "up")
            for address in endpoint.get("addresses", []):
                ip("address", "add", address, "dev", name, *["nodad"] * (":" in address))
            ip("link", "set", name, "up")
            for gateway in endpoint.get("gateways", []):
                ip("route", "add", "default", "via", gateway, "metric", endpoint["metric"])
            index = links("dev", name)[0]["ifindex"]
    except Refusal:
        ip("link", "delete", end)
        raise
    made = links("dev", end)[0]
    return {"netns": {"cookie": known, "nsid": made["link_netnsid"]},
            "interface": {"name": name, "index": index, "mac": mac, "mtu": mtu,
                          "host_index": made["ifindex"]}}


def remove(name):
    if name not in own_links():
        return
    try:
        ip("link", "delete", name)
    except Refusal:
        # With its container the link goes by itself, and that is as good.
        if name in own_links():
            raise


def check(network, endpoint):
    link = own_links().get(host_end(endpoint))
    if not link:
        return [f"the link {host_end(endpoint)} is missing"]
    wrong = link.get("master") != network["link"] or "UP" not in link["flags"]
    return [f"the link {host_end(endpoint)} is not on {network['link']} and up"] if wrong else []


def sync(networks, endpoints):
    repaired, missing, wanted = [], [], {network["link"] for network in networks}
    bridges = {network["id"]: network["link"] for network in networks}
    for network in networks:
        repaired += network_up(network)
    own = own_links()
    for endpoint in endpoints:
        end, bridge = host_end(endpoint), bridges[endpoint["network"]]
        wanted.add(end)
        if end not in own:
            missing.append(endpoint["id"])
        elif own[end].get("master") != bridge or "UP" not in own[end]["flags"]:
            ip("link", "set", end, "master", bridge, "up")
            repaired.append(f"put {end} on {bridge}")
    for name in own.keys() - wanted:
        remove(name)
        repaired.append(f"took {name} away")
    return {"repaired": repaired, "missing": missing}


METHODS = {
    "driver.info": lambda: {
        "name": "pybridge", "version": "1", "protocols": [1],
        "capabilities": {"addresses": True, "gateway": True}},
    "driver.network_up": lambda network: (network_up(network), {"mtu": mtu_of(network)})[1],
    "driver.network_down": lambda network: remove(network.get("link")) or {},
    "driver.attach": attach,
    "driver.detach": lambda network, endpoint: remove(host_end(endpoint)) or {},
    "driver.check": lambda network, endpoint: {"differences": check(network, endpoint)},
    "driver.plan": lambda network, endpoint: {
        "steps": [f"make the veth pair {host_end(endpoint)} and {endpoint['ifname']}"],
        "observed": own_links().get(host_end(endpoint))},
    "driver.sync": sync,
}


# --- the protocol --------------------------------------------------------------------------------

def parameters(method, given):
    """Those that the method has, and all of them; what else there is is passed over."""
    if not isinstance(given, dict):
        raise Refusal("invalid", "the parameters should be an object")
    kinds = {"netns": str, "networks": list, "endpoints": list}
    code = method.__code__
    wanted = code.co_varnames[:code.co_argcount]
    for name in wanted:
        if not isinstance(given.get(name), kinds.get(name, dict)):
            raise Refusal("invalid", f"the parameter {name} is missing or of the wrong type")
    return {name: given[name] for name in wanted}


def answer(request):
    """The reply to one request; none to a notification."""
    known, outcome = None, {}
    try:
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" \
                or not isinstance(request.get("method"), str):
            raise Refusal("invalid", "not a JSON-RPC request", -32600)
        known = request.get("id")
        method = METHODS.get(request["method"])
        if not method:
            raise Refusal("unsupported", f"there is no method {request['method']}")
        outcome["result"] = method(**parameters(method, request.get("params", {})))
    except (Refusal, OSError) as why:
        if isinstance(why, OSError):
            why = Refusal("kernel", str(why))
        outcome["error"] = {"code": why.code, "message": str(why), "data": {"kind": why.kind}}
        if why.code == -32600:
            return {"jsonrpc": "2.0", "id": None, **outcome}
    return None if known is None else {"jsonrpc": "2.0", "id": known, **outcome}


def line(text):
    try:
        asked = json.loads(text)
    except ValueError as error:
        return {"jsonrpc": "2.0", "id": None, "error": {
            "code": -32700, "message": f"not a JSON document: {error}", "data": {"kind": "invalid"}}}
    if not isinstance(asked, list) or not asked:
        return answer(asked)
    return [reply for reply in map(answer, asked) if reply] or None


if __name__ == "__main__":
    for text in sys.stdin:
        reply = line(text) if text.strip() else None
        if reply:
            print(json.dumps(reply), flush=True)
