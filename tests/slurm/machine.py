"""Pretended machines: their processes see a network, a host name and processes of their own, and the real file system."""

import os
import subprocess
from pathlib import Path

INIT = """
set -e
hostname "$0"
mount --bind "$1" /etc/hosts
ip link set lo up
echo up
exec >/dev/null
while read -r; do :; done
"""
"""The first process of a machine, whose end is that of all others. It ends with its input, and so with the tests."""


class Machine:
    """A machine made of Linux namespaces. Whatever runs on it dies by SIGKILL when it is cut off or the tests end."""

    def __init__(self, name: str, hosts: Path) -> None:
        """Switch it on.

        Args:
            name: its host name.
            hosts: what its processes find in /etc/hosts.
        """
        self.name = name
        self._power = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            + ["bash", "-c", INIT, name, str(hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._power.stdout is not None
        assert self._power.stdout.readline() == "up\n", f"{name} did not start"

    @property
    def is_on(self) -> bool:
        """Whether its first process lives."""
        return self._power.poll() is None

    def cut_off(self) -> None:
        """End all that runs on it, as if power were cut."""
        self._power.kill()
        self._power.communicate()

    def enter(self, *words: str, cwd: Path | None = None) -> list[str]:
        """The command line that runs `words` on it, in the folder `cwd` or the present one."""
        own = f"/proc/{self._power.pid}/ns"
        spaces = ("--net", "--uts", "--mount", f"--pid={own}/pid_for_children")
        return ["nsenter", f"--target={self._power.pid}", *spaces, "env", f"--chdir={cwd or Path.cwd()}", *words]

    def connect(self, address: str, hub: "Machine") -> None:
        """Plug it into the bridge `hub0` of another machine; `address` is one of 10.77.0.0/24."""
        on_hub = ["nsenter", f"--target={hub._power.pid}", "--net", "ip", "link"]
        plug = f"to-{self.name}"
        peer = ["type", "veth", "peer", "name", "eth0", "netns", str(self._power.pid)]
        subprocess.run([*on_hub, "add", plug, *peer], check=True)
        subprocess.run([*on_hub, "set", plug, "master", "hub0", "up"], check=True)
        for words in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            subprocess.run(self.enter("ip", *words), check=True)

    def list_processes(self) -> dict[int, str]:
        """Command lines of all that runs on it beside its first process, by process id."""
        space = os.readlink(f"/proc/{self._power.pid}/ns/pid_for_children")
        ...
