"""An agent for ARM, under qemu, polls pymodbus and delivers to this machine's own collector; the collector's answers
are compared with what the simulator holds.

usage: arm_end_to_end.py NAME CLOCK EMULATOR AGENT    CLOCK: the words, one a line, that set a program's clock

The agent starts alone and fills its disk for a while before there is a collector: what it read then arrives too.
"""

import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE_S = 120
GATEWAY, NODE = "ARM_GATEWAY", "ARM_001"
BLOCKS_FIRST = 3  # on the agent's disk before the collector starts


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise SystemExit(f"waited {PATIENCE_S} s for {what}")


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return None  # not there yet


class Site:
    """Everything in one temporary folder; what was started is ended."""

    def __init__(self, folder, clock, agent):
        self.folder, self.clock, self.agent = pathlib.Path(folder), clock, agent
        self.ingest, self.api, self.status = free_port(), free_port(), free_port()
        self.programs = []

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        for program in reversed(self.programs):
            program.send_signal(signal.SIGTERM)
            try:
                program.wait(60)
            except subprocess.TimeoutExpired:
                program.kill()
        for log in sorted(self.folder.glob("*.log")) if failed else []:
            print(f"--- {log.name}\n{log.read_text()[-4000:]}", file=sys.stderr)

    def start(self, name, command, **pipes):
        with open(self.folder / f"{name}.log", "w") as log:
            program = subprocess.Popen(command, stderr=log, **pipes)
        self.programs.append(program)
        return program

    def collector(self, *arguments):
        return [*self.clock, ROOT / "target/debug/collector", *arguments, "--config", self.folder / "collector.toml"]

    def simulator(self):
        script = ROOT / "edge-agent/tests/peers/modbus_server.py"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        program = self.start("simulator", [sys.executable, script, "tcp"], **pipes)
        points = json.loads(program.stdout.readline())["points"]
        return points, int(program.stdout.readline().split()[1])

    def configure_collector(self):
        (self.folder / "collector.toml").write_text(f"""
data_dir = "{self.folder}/collector"
ingest.listen = "127.0.0.1:{self.ingest}"
api.listen = "127.0.0.1:{self.api}"
buffer.flush_interval = "1s"
grants.{GATEWAY} = ["*"]
""")
        for words in (["ca", "init"], ["ca", "issue", GATEWAY]):
            made = subprocess.run([*self.collector(*words), "--json"], check=True, capture_output=True, text=True)
            (self.folder / f"{words[1]}.json").write_text(made.stdout)
        return json.loads((self.folder / "init.json").read_text()), json.loads((self.folder / "issue.json").read_text())

    def configure_agent(self, authority, own, points, modbus):
        text = f"""
data_dir = "{self.folder}/agent"
http.listen = "127.0.0.1:{self.status}"
batch.age_max = "1s"
clock.trust = "system"
[uplink]
collectors = ["127.0.0.1:{self.ingest}"]
ca = "{authority["ca"]}"
cert = "{own["cert"]}"
key = "{own["key"]}"
[[modbus]]
name = "simulator"
transport = "tcp"
address = "127.0.0.1:{modbus}"
timeout = "5s"
[[modbus.device]]
name = "everything"
unit = 1
node = "{NODE}"
interval = "1s"
"""
        for number, point in enumerate(points):
            bit = f"bit = {point['bit']}\n" if "bit" in point else ""
            order = f"word_order = \"{point['order']}\"\n" if point["register"] in ("holding", "input") else ""
            text += f"""[[modbus.device.point]]
metric = "level"
channel = "p{number}"
register = "{point['register']}"
address = {point['address']}
type = "{point['type']}"
range = [-1e300, 1e300]
{bit}{order}"""
        (self.folder / "agent.toml").write_text(text)


def differences(points, items):
    """In words, where what the collector says isn't what the simulator holds."""
    said = {item["channel"]: item for item in items}
    found = [f"p{n} is missing" for n in range(len(points)) if f"p{n}" not in said]
    for number, point in enumerate(points):
        item = said.get(f"p{number}")
        if item is None:
            continue
        value, expected = item["value"], point["value"]
        if expected is None:
            right = value is None and item["quality"] == "bad"
        elif abs(expected) > 2**53:
            right = item["quality"] == "uncertain" and math.isclose(value, expected) or (
                point["type"].startswith("f") and value == expected)
        else:
            right = item["quality"] == "good" and value == expected
        if not right:
            found.append(f"{point} is answered as {value} {item['quality']}")
    return found


def main():
    name, clock, *agent = sys.argv[1:]
    clock = clock.split("\n")
    with tempfile.TemporaryDirectory() as folder, Site(folder, clock, agent) as site:
        points, modbus = site.simulator()
        authority, own = site.configure_collector()
        site.configure_agent(authority, own, points, modbus)
        site.start("agent", [*clock, *agent, "run", "--config", site.folder / "agent.toml"], stdout=subprocess.DEVNULL)
        wait_for("the agent's status page", lambda: get(site.status, "/status"))
        wait_for("the agent to fill its disk", lambda: blocks_held(site) >= BLOCKS_FIRST)
        site.start("collector", site.collector("run"), stdout=subprocess.DEVNULL)
        latest = f"/api/v1/latest?node={NODE}"
        wait_for("all series", lambda: len((get(site.api, latest) or {"items": []})["items"]) == len(points))
        wrong = differences(points, get(site.api, latest)["items"])
        if wrong:
            raise SystemExit("\n".join(wrong))
        check_history(site, name)
        print(f"{name}: {len(points)} points polled and delivered, all equal to the simulator's", file=sys.stderr)


def blocks_held(site):
    return get(site.status, "/status")["spool"]["blocks"]


def check_history(site, name):
    """What was read before there was a collector is there, in order, in the year that it should be."""
    path = f"/api/v1/history?node={NODE}&metric=level&channel=p0&from=now-1h&to=now&resolution=raw"
    times = [point["at"] for point in wait_for("the history", lambda: points_of(get(site.api, path)))]
    if times != sorted(set(times)):
        raise SystemExit(f"{name}: not in order: {times}")
    if name.endswith("-2040") != (int(times[0][:4]) >= 2040):
        raise SystemExit(f"{name}: the clock was wrong: {times[0]}")
    gateways = wait_for("the gateway's row", lambda: (get(site.api, "/api/v1/gateways") or {}).get("items"))
    first_heard = gateways[0]["first_heard"]
    if times[0] >= first_heard:
        raise SystemExit(f"{name}: nothing from before the collector: {times[0]}, first heard of at {first_heard}")


def points_of(answer):
    return answer and (answer.get("points") or answer["items"][0]["points"])


main()
