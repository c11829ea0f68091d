"""Put a server under load, good and hostile mixed, and see whether it stands.

A model is fitted on 8 labels a class of trec6 or flowers5, exported to ONNX and served
by the command `fewshot serve --reload`. 50 clients on the loopback ask for 60 s; one
request in 20 is hostile: too large (announced or not), a truncated or alien image, of a
wrong type, deep JSON, half a head, a body that never ends, a socket that is half closed
or just gone. After 3/4 of the time a new version of the model takes the folder. At
the end SIGTERM comes while large requests are under way.

The goals: no answer of 500, no good request without its answer (neither by the new
version nor by SIGTERM), memory that grows by at most 10 % from 1/4
to 3/4 of the time.

Examples:
    python benchmarks/serve.py --data ../shared/data --quick
    python benchmarks/serve.py --data ../shared/data
"""

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

CLIENTS = 50
HOSTILE = 0.05
GROWTH_GOAL = 0.10
LARGEST = 1_000_000
"""Bytes of a body that the server takes here."""
TYPE = {"text": "application/json", "image": "multipart/form-data; boundary=b"}


def head_of(path: str, kind: str, more: str) -> bytes:
    """Return the head of a request."""
    lines = f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"
    return "\r\n".join([*lines, more, "", ""]).encode()


def body_of(modality: str, examples: list[Any]) -> bytes:
    """Return a body that asks for some examples."""
    if modality == "text":
        return json.dumps({"inputs": examples}).encode()
    start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
    return b"".join(start + one + b"\r\n" for one in examples) + b"--b--\r\n"


class Load:
    """Clients, and what they got."""

    def __init__(self, port: int, modality: str, examples: list[Any]) -> None:
        self.port, self.modality, self.examples = port, modality, examples
        self.path = "/predict" + ("/files" if modality == "image" else "")
        self.milliseconds: list[float] = []
        self.good: Counter[Any] = Counter()
        self.bad: Counter[Any] = Counter()
        self.rng = random.Random(0)  # noqa: S311
        self.ways = (
            self.too_large, self.endless, self.broken, self.deep, self.alien,
            self.half_a_head, self.slow, self.half_closed, self.gone,
        )  # fmt: skip

    async def answer(self, reader: asyncio.StreamReader) -> int | str:
        """Return the status of an answer that came in full."""
        try:
            async with asyncio.timeout(60):
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2]
                await reader.readexactly(int(length.partition(b"\r\n")[0] or 0))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            return type(error).__name__
        return int(head.split()[1])

    async def client(self, end: float) -> None:
        """Ask until the end, on one connection as long as it holds."""
        streams = None
        while time.monotonic() < end:
            if self.rng.random() < HOSTILE:
                way = self.rng.choice(self.ways)
                if streams:  # meanwhile the server would close it
                    streams[1].close()
                    streams = None
                pair = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    self.bad[way.__name__, await way(*pair)] += 1
                except OSError as error:
                    self.bad[way.__name__, type(error).__name__] += 1
                pair[1].close()
                continue
            streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
            body = body_of(self.modality, [self.rng.choice(self.examples)])
            began = time.monotonic()
            streams[1].write(self.head(f"Content-Length: {len(body)}") + body)
            status = await self.answer(streams[0])
            self.milliseconds.append(1000 * (time.monotonic() - began))
            self.good[status] += 1
            if status != 200:
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    def head(self, more: str, kind: str | None = None) -> bytes:
        """Return the head of a request to predict."""
        return head_of(self.path, kind or TYPE[self.modality], more)

    async def sent(self, reader: Any, writer: Any, body: bytes) -> int | str:
        """Send a body and return the status."""
        writer.write(self.head(f"Content-Length: {len(body)}") + body)
        return await self.answer(reader)

    async def too_large(self, reader: Any, writer: Any) -> int | str:
        """Announce too much."""
        writer.write(self.head(f"Content-Length: {10 * LARGEST}"))
        return await self.answer(reader)

    async def endless(self, reader: Any, writer: Any) -> int | str:
        """Send more and more without saying how much."""
        writer.write(self.head("Transfer-Encoding: chunked"))
        for _ in range(12):
            writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            await writer.drain()
        return await self.answer(reader)

    async def broken(self, reader: Any, writer: Any) -> int | str:
        """Send half of an example."""
        whole = body_of(self.modality, [self.rng.choice(self.examples)])
        if self.modality == "text":
            return await self.sent(reader, writer, whole[: len(whole) // 2])
        one = self.rng.choice(self.examples)
        return await self.sent(reader, writer, body_of("image", [one[: len(one) // 2]]))

    async def deep(self, reader: Any, writer: Any) -> int | str:
        """Send JSON that nests without end."""
        body = b'{"inputs": ' + b"[" * 200_000
        head = head_of("/predict", "application/json", f"Content-Length: {len(body)}")
        writer.write(head + body)
        return await self.answer(reader)

    async def alien(self, reader: Any, writer: Any) -> int | str:
        """Send what is no example, as something else."""
        body = b"\x00\xff%PDF" * 50
        writer.write(
            self.head(f"Content-Length: {len(body)}", "application/pdf") + body
        )
        return await self.answer(reader)

    async def half_a_head(self, reader: Any, writer: Any) -> int | str:
        """Send half of a head and wait."""
        writer.write(b"POST /predict HT")
        return await self.answer(reader)

    async def slow(self, reader: Any, writer: Any) -> int | str:
        """Send a body byte by byte."""
        writer.write(self.head("Content-Length: 1000"))
        for _ in range(40):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)
        return await self.answer(reader)

    async def half_closed(self, reader: Any, writer: Any) -> int | str:
        """Close the own side in the middle of a body."""
        writer.write(self.head("Content-Length: 1000") + b"x" * 100)
        writer.write_eof()
        return await self.answer(reader)

    async def gone(self, reader: Any, writer: Any) -> int | str:
        """Ask and go away."""
        body = body_of(self.modality, [self.rng.choice(self.examples)])
        writer.write(self.head(f"Content-Length: {len(body)}") + body)
        await writer.drain()
        return "went away"


async def under_load(load: Load, seconds: float, process: Any, swap: Any) -> list[int]:
    """Let clients ask; return the bytes of memory of the server, second by second."""
    import psutil

    memory, end = [], time.monotonic() + seconds
    clients = [asyncio.create_task(load.client(end)) for _ in range(CLIENTS)]
    late = time.monotonic() + 0.75 * seconds
    while time.monotonic() < end:
        await asyncio.sleep(1)
        memory.append(psutil.Process(process.pid).memory_info().rss)
        if swap and time.monotonic() > late:
            await asyncio.to_thread(swap)
            swap = None
    await asyncio.gather(*clients)
    return memory


async def at_the_end(load: Load, process: Any) -> Counter[Any]:
    """Send SIGTERM while large requests are under way; return their statuses."""
    body = body_of(load.modality, sorted(load.examples, key=len)[-8:])
    pairs = [await asyncio.open_connection("127.0.0.1", load.port) for _ in range(6)]
    for _, writer in pairs:
        writer.write(load.head(f"Content-Length: {len(body)}") + body)
        await writer.drain()
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    found = Counter([await load.answer(reader) for reader, _ in pairs])
    for _, writer in pairs:
        writer.close()
    return found


def exports(modality: str, data: Path, home: Path) -> list[Any]:
    """Write two versions of a model; return examples as they are sent."""
    from export import FIRST, examples_of, fit

    from fewshot_automl.backbones.load import load
    from fewshot_automl.backbones.weights import locate
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.export.write import Evidence, write_export

    card = Zoo.shipped()[FIRST[modality]]
    examples = examples_of(modality, data)
    first = fit(load(card, locate(card)), "probe", examples)
    for name, temperature in (("one", 1.2), ("two", 1.4)):
        made = replace(first, calibration={"temperature": temperature})
        write_export(made, "onnx", home / name, Evidence(inputs=examples[0]))
    test = examples[2][:200]
    return [*test] if modality == "text" else [path.read_bytes() for path in test]


def measured(modality: str, seconds: float, data: Path, home: Path) -> dict[str, Any]:
    """Serve a model under load; return what happened."""
    examples, model = exports(modality, data, home), home / "model"
    shutil.copytree(home / "one", model)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", str(model), "--port", str(port), "--reload"]
    words += ["--limit", "max_bytes", str(LARGEST), "--limit", "seconds", "5"]
    with (home / "log").open("wb") as log:
        command = [sys.executable, "-m", "fewshot_automl", *words]
        process = subprocess.Popen(command, stderr=log)
    load = Load(port, modality, examples)
    try:
        for _ in range(600):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 1),
            ):
                break
            time.sleep(0.1)

        def swap() -> None:
            shutil.rmtree(model)
            (home / "two").rename(model)

        memory = asyncio.run(under_load(load, seconds, process, swap))
        last = asyncio.run(at_the_end(load, process))
        code = process.wait(60)
    finally:
        process.kill()
    events = [json.loads(x) for x in (home / "log").read_text().splitlines()[1:]]
    early, late = memory[len(memory) // 4], memory[len(memory) * 3 // 4 - 1]
    print(f"\n{modality}: good {dict(load.good)}, at SIGTERM {dict(last)}, exit {code}")
    for (way, status), count in sorted(load.bad.items(), key=str):
        print(f"  {way:<12} {status!s:<22} {count:>5}")
    return {
        "requests_per_second": round(load.good[200] / seconds, 1),
        "p50_ms": round(float(np.percentile(load.milliseconds, 50)), 1),
        "p99_ms": round(float(np.percentile(load.milliseconds, 99)), 1),
        "hostile": load.bad.total(),
        "errors_500": sum(event.get("status") == 500 for event in events),
        "good_lost": load.good.total() - load.good[200],
        "reloads": sum(event["event"] == "reloaded" for event in events),
        "sigterm_lost": last.total() - last[200],
        "memory_mb": round(late / 1e6),
        "growth": round(late / early - 1, 3),
        "memory_mb_reloaded": round(memory[-1] / 1e6),
    }


def main() -> None:
    """Run both modalities, print the table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="15 s each")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="of trec6, flowers5"
    )
    asked = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    figures: dict[str, float] = {}
    falls_short = []
    for modality in TYPE:
        with tempfile.TemporaryDirectory(prefix="fewshot-serve-") as home:
            seconds = 15.0 if asked.quick else 60.0
            found = measured(modality, seconds, asked.data, Path(home))
        for name, value in found.items():
            figures[f"{modality} {name}"] = value
            print(f"{modality + ' ' + name.replace('_', ' '):<28} {value:>10,}")
        zero = ("errors_500", "good_lost", "sigterm_lost")
        falls_short += [f"{modality} {x}: {found[x]}" for x in zero if found[x]]
        if found["growth"] > GROWTH_GOAL:
            falls_short.append(f"{modality} memory: {found['growth']:+.0%}")
        if found["reloads"] != 1:
            falls_short.append(f"{modality} reloads: {found['reloads']}")
    report = {"benchmark": "serve", "figures": figures, "falls_short": falls_short}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
