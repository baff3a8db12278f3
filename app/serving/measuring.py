"""Measure one graph in a process of its own: `python -m app.serving.measuring GRAPH PLACE THREADS ENGINE`."""

import sys
from pathlib import Path

from app.serving.loading import remember
from app.serving.runtime import load_engine, plain_bytes
from app.serving.tuning import tune
from app.serving.ways import EngineChoice, main_outputs, ways_to_run


def measure(path: Path, place: Path, *, threads: int, engine: EngineChoice) -> None:
    """Write down at `place` which ways to run a graph are the fastest."""
    graph = plain_bytes(path)
    base = load_engine(graph)
    candidates = ways_to_run(graph, base, engine=engine, threads=threads)
    remember(place, tune(base, candidates, main_outputs(base), threads=threads))


if __name__ == "__main__":
    _, graph_path, note, thread_count, choice = sys.argv
    measure(Path(graph_path), Path(note), threads=int(thread_count), engine=choice)  # type: ignore[arg-type]
