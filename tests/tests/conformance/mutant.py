#!/usr/bin/env python3
"""Debian's reference bridge with one thing broken: which one, the name of this file says."""

import json
import os
import subprocess
import sys

REAL = "/usr/lib/cni/bridge"
mode = os.path.basename(sys.argv[0])
command = os.environ.get("CNI_COMMAND", "")
text = sys.stdin.read()
config = json.loads(text) if text.strip().startswith("{") and text.strip().endswith("}") else {}


def fail(message):
    print(json.dumps({"cniVersion": "1.0.0", "code": 111, "msg": message}))
    sys.exit(1)


if mode == "blind-check" and command == "CHECK":
    sys.exit(0)
if mode == "strict-del" and command == "DEL" and not os.environ.get("CNI_NETNS"):
    fail("there is no namespace")
if mode == "strict-del" and command == "DEL" and "prevResult" not in config:
    fail("there is no prevResult")
if mode == "lazy-del" and command == "DEL":
    sys.exit(0)
if mode == "one-version" and command == "ADD" and "cniVersion" in config:
    config["cniVersion"] = "1.0.0"
    text = json.dumps(config)
if mode == "careless" and command == "ADD":
    os.environ.setdefault("CNI_CONTAINERID", "c")
    os.environ["CNI_CONTAINERID"] = os.environ["CNI_CONTAINERID"].strip("-./ :") or "c"

done = subprocess.run([REAL], input=text, capture_output=True, text=True)
out, err = done.stdout, done.stderr

if mode == "chatty" and command == "ADD":
    out = "adding a container\n" + out
if mode == "mute-error" and done.returncode != 0:
    out, err = "", out + err
if mode == "liar" and command == "ADD" and done.returncode == 0:
    result = json.loads(out)
    for ip in result.get("ips", []):
        ip["address"] = "10.83.0.200/24"
    out = json.dumps(result)
if mode == "down" and command == "ADD" and done.returncode == 0:
    netns, ifname = os.environ["CNI_NETNS"], os.environ["CNI_IFNAME"]
    subprocess.run(["nsenter", "--net=" + netns, "ip", "link", "set", ifname, "down"], check=True)

sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(done.returncode)
