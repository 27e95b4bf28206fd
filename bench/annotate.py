"""The rating app under load, and under kill -9: how fast it answers, and that nothing gets lost.

    python -m bench.annotate load [--annotators 200] [--items 20] [--think 0] [--database URL]
    python -m bench.annotate kill [--kills 20] [--annotators 20] [--database URL]

Real HTTP against `cameleer annotate serve` in a process of its own. load: everybody logs in and
rates `items` comparisons out of 10,000, with `think` seconds in between (0: as fast as the server
lets them). kill: the server gets SIGKILL at random moments and is started again, while annotators
send what was not confirmed once more, under the same id. Afterwards the database is compared with
what was confirmed: each rating is there exactly once, and no comparison was rated by more people
than wanted. Exit 1 if not. Writes bench/out/annotate_{load,kill}.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sqlalchemy as sql

from bench.annotators import PASSWORD, Log, all_at_work
from cameleer.core.artifact import environment
from cameleer.core.console import note
from cameleer.core.files import write_json, write_jsonl
from cameleer.human.accounts import hash_password
from cameleer.human.campaign import Campaign, new_campaign
from cameleer.human.database import open_database, raters, ratings, reading, tasks, writing
from cameleer.human.slots import wanted

OUT = Path(__file__).parent / "out"
PROMPTS = 3_334  # three pairs of models: 10,002 comparisons
MODELS = ("tulu", "dolly", "alpaca", "flan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the two tests and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test", choices=("load", "kill"))
    parser.add_argument("--annotators", type=int)
    parser.add_argument("--items", type=int, help="comparisons for each annotator")
    parser.add_argument("--think", type=float, default=0.0, help="mean seconds for each")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--database", help="PostgreSQL, empty; else SQLite")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        facts = (load if given.test == "load" else kill)(Path(folder), given)
    facts["environment"] = environment()
    write_json(OUT / f"annotate_{given.test}.json", facts)
    del facts["environment"]
    print(json.dumps(facts))
    sys.exit(1 if facts["wrong"] else 0)


def load(folder: Path, given: Any) -> dict[str, Any]:
    """Everybody at once; how long each kind of request took."""
    names = _names(given.annotators or 200)
    campaign = _campaign(folder / "campaign", given, names)
    busy = os.getloadavg()[0]
    with serving(campaign, _port(), given.database) as (site, server):
        log, began, used = Log(), time.monotonic(), _cpu(server)
        asyncio.run(all_at_work(site, names, given.items or 20, given.think, given.seed, log))
        took, used = time.monotonic() - began, _cpu(server) - used
    requests = sum(map(len, log.times.values()))
    return {
        "annotators": len(names),
        "comparisons": len(campaign.rated),
        "think": given.think,
        "database": "postgresql" if given.database else "sqlite",
        "seconds": round(took, 2),
        "ratings_a_second": round(len(log.confirmed) / took, 1),
        "requests_a_second": round(requests / took, 1),
        "server_cpu_milliseconds_a_request": round(1000 * used / requests, 1),
        "load_of_the_machine_before": round(busy, 2),
        "milliseconds": {kind: _percentiles(times) for kind, times in sorted(log.times.items())},
        **_told(log),
        "wrong": wrong(campaign, given.database, log),
    }


def kill(folder: Path, given: Any) -> dict[str, Any]:
    """Kill the server again and again while people rate."""
    names = _names(given.annotators or 20)
    campaign = _campaign(folder / "campaign", given, names)
    log, kills = asyncio.run(_killed_at_work(campaign, names, given))
    return {
        "annotators": len(names),
        "kills": kills,
        "database": "postgresql" if given.database else "sqlite",
        "sent_again": sum(one.tries > 1 for one in log.confirmed),
        **_told(log),
        "wrong": wrong(campaign, given.database, log),
    }


async def _killed_at_work(campaign: Campaign, names: list[str], given: Any) -> tuple[Log, int]:
    """Annotators rate until the server was killed often enough, and finish what they began."""
    port, draw, log = _port(), random.Random(given.seed), Log()
    server = start(campaign, port, given.database)
    await asyncio.to_thread(ready, port, server)
    site, items = f"http://127.0.0.1:{port}", given.items or sys.maxsize
    people = asyncio.create_task(all_at_work(site, names, items, given.think, given.seed, log))
    kills = 0
    try:
        while kills < given.kills and not people.done():
            await _some_more(log, draw.randint(0, 2 * len(names)))
            await asyncio.sleep(draw.uniform(0.0, 0.2))
            server.kill()
            server.wait()
            kills += 1
            server = start(campaign, port, given.database)
            await asyncio.to_thread(ready, port, server)
            note(f"killed {kills} times, {len(log.confirmed)} ratings confirmed")
        log.enough = True
        await people
    finally:
        server.terminate()
        server.wait()
    return log, kills


async def _some_more(log: Log, count: int, patience: float = 30.0) -> None:
    """Wait until so many more ratings were confirmed, or for so many seconds."""
    goal, until = len(log.confirmed) + count, time.monotonic() + patience
    while len(log.confirmed) < goal and time.monotonic() < until:
        await asyncio.sleep(0.002)


def wrong(campaign: Campaign, url: str | None, log: Log) -> list[str]:
    """What of the database does not fit what the server confirmed."""
    engine = open_database(campaign, url)
    query = sql.select(
        tasks.c.token, tasks.c.instance, tasks.c.kind, ratings.c.submission, ratings.c.state,
        ratings.c.preference,
    ).join(ratings, ratings.c.task == tasks.c.id)  # fmt: skip
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    engine.dispose()
    held = Counter((row.token, row.submission, row.preference) for row in rows)
    sent = Counter((one.token, one.submission, one.preference) for one in log.confirmed)
    count = Counter(row.instance for row in rows if row.kind == "rating")
    times = wanted(campaign)
    found = {
        "confirmed ratings that are not in the database": (sent - held).total(),
        "ratings in the database that were not confirmed": (held - sent).total(),
        "ratings confirmed twice": sum(n - 1 for n in sent.values()),
        "ratings that do not count": sum(row.state != "current" for row in rows),
        "comparisons rated by more people than wanted": sum(
            n > times[index] for index, n in count.items()
        ),
    }
    return [f"{n} {what}" for what, n in found.items() if n]


def _told(log: Log) -> dict[str, Any]:
    return {
        "confirmed": len(log.confirmed),
        "told_to_wait": log.slowed,
        "without_answer": log.lost,
        "refused": log.refused,
    }


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    told = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    found = {name: round(float(np.percentile(times, at)) * 1000, 1) for name, at in told.items()}
    return {"n": len(times), **found}


def _names(count: int) -> list[str]:
    return [f"annotator{number:03d}" for number in range(count)]


def _campaign(folder: Path, given: Any, names: Sequence[str]) -> Campaign:
    """Three pairs of made-up answers of usual lengths, and accounts that share a password."""
    draw = random.Random(given.seed)
    answers = {}
    for model in MODELS:
        answers[model] = folder.parent / f"{model}.jsonl"
        write_jsonl(answers[model], [
            {"id": f"{row}", "prompt": f"Request {row}: {_words(random.Random(row), 40)}",
             "completion": f"{_words(draw, 150)}\n\n* {_words(draw, 30)}\n* {_words(draw, 30)}"}
            for row in range(given.prompts)
        ])  # fmt: skip
    pairs = [(MODELS[0], other) for other in MODELS[1:]]
    campaign = new_campaign(folder, answers, pairs, overlap=0.2, repeats=2, seed=given.seed)
    engine = open_database(campaign, given.database)
    hashed = hash_password(PASSWORD)  # one hash for all: 200 would take seconds
    rows = [
        {"name": name, "folded": name, "role": "annotator", "password": hashed, "disabled": False}
        for name in names
    ]
    with writing(engine) as connection:
        connection.execute(sql.insert(raters), rows)
    engine.dispose()
    return campaign


def _words(draw: random.Random, count: int) -> str:
    return " ".join(
        "".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(count)
    )


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start(campaign: Campaign, port: int, database: str | None) -> subprocess.Popen[bytes]:
    """`cameleer annotate serve` in a process of its own."""
    command = [sys.executable, "-m", "cameleer.cli", "annotate", "serve", str(campaign.folder)]
    command += ["--port", str(port), *(["--database", database] if database else [])]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ})


def ready(port: int, server: subprocess.Popen[bytes], patience: float = 60.0) -> None:
    """Wait until a server listens."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the server does not listen")


@contextmanager
def serving(
    campaign: Campaign, port: int, database: str | None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server that runs within the block: its address and its process."""
    server = start(campaign, port, database)
    try:
        ready(port, server)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait()


def _cpu(server: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that a process took so far."""
    stat = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
