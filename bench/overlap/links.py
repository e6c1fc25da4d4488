"""Two ranks over a link: threads over an emulated one, or processes in two network namespaces that tc tbf limits."""

import os
import pathlib
import subprocess
import tempfile

NAMES = ("plait-a", "plait-b")
DEVICE = "link0"


class Namespaces:
    """Two of them, joined by a link that tc limits in both directions. Needs root, ip and tc."""

    def __enter__(self) -> "Namespaces":
        self.leave()
        for name in NAMES:
            run("ip", "netns", "add", name)
        run("ip", "link", "add", DEVICE, "netns", NAMES[0], "type", "veth", "peer", "name", DEVICE, "netns", NAMES[1])
        for number, name in enumerate(NAMES, 1):
            run("ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", DEVICE)
            # Packets smaller than the bucket; and no delayed acknowledgements, each of which would stop a short exchange for 40 ms.
            run("ip", "-n", name, "link", "set", DEVICE, "up", "gso_max_size", "16000")
            run("ip", "-n", name, "route", "replace", "10.77.0.0/24", "dev", DEVICE, "quickack", "1")
            run("ip", "-n", name, "link", "set", "lo", "up")
        return self

    def limit(self, megabytes_per_s: float) -> None:
        """A bucket of 32 KB: a larger one would fill while ranks compute and let much of the next exchange pass at once."""
        for name in NAMES:
            run("tc", "-n", name, "qdisc", "replace", "dev", DEVICE, "root", "tbf", "rate", f"{megabytes_per_s * 8:.3f}mbit",
                "burst", "32kb", "latency", "400ms")

    def run(self, command: list[str], folder: pathlib.Path) -> list[str]:
        """Of both ranks what they print; a process in each namespace, with the variables of torchrun."""
        ranks, errors = [], []
        for rank, name in enumerate(NAMES):
            environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "10.77.0.1",
                           "MASTER_PORT": "29577", "GLOO_SOCKET_IFNAME": DEVICE, "OMP_NUM_THREADS": "1"}
            errors.append(tempfile.TemporaryFile("w+"))
            ranks.append(subprocess.Popen(["ip", "netns", "exec", name, *command], cwd=folder, env=environment,
                                          stdout=subprocess.PIPE, stderr=errors[-1], text=True))
        try:
            printed = [rank.communicate()[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()  # where this was interrupted; others have ended
        said = []
        for error in errors:
            error.seek(0)
            said.append(error.read())
            error.close()
        if any(rank.returncode != 0 for rank in ranks):
            raise RuntimeError(f"a rank of {' '.join(command)} failed:\n" + "\n".join(said))
        return printed

    def megabytes_sent(self) -> float:
        """What has left both ends so far, headers and all."""
        total = 0
        for name in NAMES:
            path = f"/sys/class/net/{DEVICE}/statistics/tx_bytes"
            total += int(run("ip", "netns", "exec", name, "cat", path))
        return total / 1e6

    def __exit__(self, *_: object) -> None:
        self.leave()

    @staticmethod
    def leave() -> None:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
