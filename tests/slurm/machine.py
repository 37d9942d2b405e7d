"""Pretended machines: processes that see a network, a host name and processes of their own, and the real files."""

import re
import subprocess
from contextlib import suppress
from ipaddress import IPv4Interface
from pathlib import Path

NAMESPACES = ("--net", "--uts", "--mount", "--pid")
FIRST_PROCESS = """
set -e
hostname "$0"
mount --bind "$1" /etc/hosts
ip link set lo up
echo up
exec >/dev/null
while read -r; do :; done
"""
"""What runs before all others, and ends them by its own end: that of its input, whose other side the tests hold."""


class Machine:
    """A machine made of Linux namespaces, which needs root. Nothing of it outlives `cut_off` or the tests."""

    def __init__(self, name: str, hosts: Path) -> None:
        """Switch it on.

        Args:
            name: its host name.
            hosts: what its processes find in /etc/hosts.
        """
        self.name = name
        unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
        self._power = subprocess.Popen(
            [*unshare, "bash", "-c", FIRST_PROCESS, name, str(hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._power.stdout
        if self._power.stdout.readline() != "up\n":
            raise RuntimeError(f"{name} did not start: {self._power.communicate()[1]}")

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._power.poll() is None

    def cut_off(self) -> None:
        """Take its power: all that runs on it dies by SIGKILL at once, and its network is gone."""
        self._power.kill()
        self._power.communicate()

    def enter(self, *words: str, cwd: Path | None = None) -> list[str]:
        """The command line that runs `words` on it, in the folder `cwd` or the present one."""
        processes = f"--pid=/proc/{self._power.pid}/ns/pid_for_children"
        nsenter = ["nsenter", f"--target={self._power.pid}", "--net", "--uts", "--mount", processes]
        return [*nsenter, "env", f"--chdir={cwd or Path.cwd()}", *words]

    def open_hub(self, address: str) -> None:
        """Give it a bridge with an address of its own, like 10.77.0.254/24, into which other machines are plugged."""
        for words in ("link add hub type bridge", f"address add {address} dev hub", "link set hub up"):
            subprocess.run(self.enter("ip", *words.split()), check=True)

    def plug_into(self, machine: "Machine", address: str) -> None:
        """Connect it with the hub of another one, under an address of its own, like 10.77.0.1/24.

        Its card's number follows from the address: switched on again, it is found where others remember it.
        """
        cable, hub = f"to-{self.name}", ["nsenter", f"--target={machine._power.pid}", "--net", "ip", "link"]
        card = f"02:00:{IPv4Interface(address).ip.packed.hex(':')}"
        ends = f"name {cable} type veth peer name eth0 address {card} netns {self._power.pid}"
        subprocess.run([*hub, "add", *ends.split()], check=True)
        subprocess.run([*hub, "set", cable, "master", "hub", "up"], check=True)
        for words in (f"address add {address} dev eth0", "link set eth0 up"):
            subprocess.run(self.enter("ip", *words.split()), check=True)

    def list_processes(self) -> dict[int, str]:
        """Command lines of what runs on it beside its first process, by process id as seen from here."""
        if not self.is_on:
            return {}
        own = Path(f"/proc/{self._power.pid}/ns/pid_for_children").readlink()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                number_there = re.findall(r"^NSpid:.*\t(\d+)$", (process / "status").read_text(), re.MULTILINE)
                if (process / "ns" / "pid").readlink() == own and number_there != ["1"]:
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ").strip()
        return found
