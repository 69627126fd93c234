"""A SuperLink that keeps its state in a file, so that it can be killed and started again."""

import signal
from pathlib import Path

import tomli_w

from localgd.processes import CONNECTION, FlowerProcesses, control_api_is_separate, free_ports


class DurableFlower(FlowerProcesses):
    """A SuperLink with a database, on fixed ports, whose ServerApps run in processes that outlive it."""

    def start(self, folder: Path) -> None:
        """Start the SuperLink and, beside it, what starts the ServerApps."""
        control, runtime, fleet = free_ports(3)
        control = control if control_api_is_separate() else runtime
        self._fleet = f"127.0.0.1:{fleet}"
        self.ports += [*{control, runtime}, fleet]
        connection = {"address": f"127.0.0.1:{control}", "insecure": True}
        (self.home / "config.toml").write_text(
            tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: connection}}), encoding="utf-8"
        )
        self._command = ["flower-superlink", "--insecure", "--isolation", "process"]
        self._command += ["--database", str(folder / "link.db"), "--fleet-api-address", self._fleet]
        self._command += ["--host", "127.0.0.1", "--port", str(runtime)]
        if control_api_is_separate():
            self._command += ["--control-api-address", f"127.0.0.1:{control}"]
        self.restart()
        runtime_api = ["--runtime-api-address", f"127.0.0.1:{runtime}"]
        executor = ["flower-superexec", "--insecure", "--plugin-type", "serverapp", *runtime_api]
        self._start("superexec", executor, self.environment)

    def restart(self) -> None:
        """Start the SuperLink with what its database holds."""
        self._start("superlink", self._command, self.environment)
        for port in self.ports[:3]:
            self._wait_for_port("superlink", port)

    def kill(self, name: str) -> None:
        """End a process as a power cut does."""
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait(60)
