"""A stand-in for the W&B server on loopback: as much of it as ``wandb sweep``, ``wandb agent`` and a run ask for.

It speaks the protocol of wandb 0.31 (found by logging its requests): GraphQL at /graphql, history and summary at
/files/ENTITY/PROJECT/RUN/file_stream, uploads at the addresses it hands out. It proposes with the package ``sweeps``,
the code that W&B's own server runs.
"""

import contextlib
import gzip
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

ENTITY, PROJECT, SWEEP = "tester", "lit_maprops", "sweep001"


@dataclass
class Run:
    """What the server knows of one run."""

    args: dict[str, dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


class StandIn:
    """The server, listening on a free port while used as a context manager.

    Args:
        max_runs: runs after which the agent is told to exit.

    Attributes:
        fault: an HTTP status that every request gets, or "hangs" for no answer; None: it serves.
    """

    def __init__(self, max_runs: int = 100) -> None:
        self.max_runs = max_runs
        self.fault: int | str | None = None
        self.sweep: dict[str, Any] = {}
        self.runs: dict[str, Run] = {}
        self.artifacts: list[str] = []  # types of those that runs have logged
        self.asked: set[str] = set()  # names of the GraphQL operations and the kinds of path seen
        self.connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "StandIn":
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.die()

    def die(self) -> None:
        """Go away at once, as a crashed server does: open connections are cut and new ones refused."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer one operation."""
        with self._lock:
            self.asked.add(name)
            answer = getattr(self, f"_{name}", None)
            return {} if answer is None else answer(variables)

    def _Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        user = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}
        return {"viewer": user}

    def _ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _UpsertSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.sweep = yaml.safe_load(variables["config"])
        sweep = {"name": SWEEP, "project": {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _SweepWithRuns(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = {"id": "s", "name": SWEEP, "state": "RUNNING", "config": yaml.safe_dump(self.sweep, sort_keys=False)}
        return {"project": {"sweep": sweep | {"runs": {"edges": []}}}}

    def _CreateAgent(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "a"}}}

    def _Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        commands = [] if json.loads(variables["runState"]) else [self._next()]
        return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}

    def _next(self) -> dict[str, Any]:
        import sweeps

        done = [
            sweeps.SweepRun(name=k, state="finished", config=r.args, summary_metrics=r.summary, history=r.history)
            for k, r in self.runs.items()
        ]
        proposal = sweeps.next_run(self.sweep, done) if len(done) < self.max_runs else None
        if proposal is None:
            return {"type": "exit"}
        run_id = f"run{len(done):05d}"
        # Sorted, as Go's JSON is: the flags reach the program in this order.
        args = json.loads(json.dumps(proposal.config, sort_keys=True, default=float))
        self.runs[run_id] = Run(args)
        return {"type": "run", "run_id": run_id, "program": self.sweep.get("program", ""), "args": args}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(variables["name"], Run({}))
        run.config |= json.loads(variables["config"] or "{}")
        project = {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}
        name = variables["name"]
        bucket = {"id": name, "name": name, "displayName": name, "sweepName": SWEEP, "project": project}
        return {"upsertBucket": {"bucket": bucket | {"config": json.dumps(run.config)}, "inserted": True}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        """It has all of its files already, so that nothing more is sent; tables come as artifacts, too."""
        given = variables["input"]
        with contextlib.suppress(KeyError):
            self.artifacts.append(given["artifactTypeName"])
        sequence = {"id": "s", "latestArtifact": {"id": "x", "versionIndex": 0}}
        return {"createArtifact": {"artifact": {"id": "x", "state": "COMMITTED", "artifactSequence": sequence}}}

    def file_stream(self, run_id: str, content: dict[str, Any]) -> None:
        """Take the history, the summary and the exit code a run sends."""
        with self._lock:
            self.asked.add("file_stream")
            run = self.runs.setdefault(run_id, Run({}))
            files = content.get("files", {})
            for line in files.get("wandb-history.jsonl", {}).get("content", []):
                run.history.append(json.loads(line))
            for line in files.get("wandb-summary.json", {}).get("content", []):
                run.summary |= json.loads(line)
            if content.get("complete"):
                run.exit_code = content.get("exitcode")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def setup(self) -> None:
        super().setup()
        self.stand_in.connections.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the connection was cut
            super().handle()
        self.stand_in.connections.discard(self.connection)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.stand_in.fault == "hangs":
            self.connection.recv(1)  # until the client gives up, or the server dies
            return
        if self.stand_in.fault is not None:
            self.send_response(int(self.stand_in.fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            request = json.loads(body)
            # wandb's Python side leaves operationName empty.
            operation = re.search(r"(?:query|mutation) (\w+)", request["query"])
            name = operation[1] if operation else ""
            answer = {"data": self.stand_in.graphql(name, request.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.stand_in.file_stream(self.path.split("/")[-2], json.loads(body))
        out = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_PUT = do_POST

    def log_message(self, *args: Any) -> None:
        """Nothing: the test's output stays readable."""
