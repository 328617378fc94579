"""Runs the stages: plans which artifacts are missing or stale, makes them in order, sums up the result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeft.errors import EdgeftError, nearest
from edgeft.graph import STAGES, Graph, Node, require_importable, require_sources, require_trainable
from edgeft.progress import Progress
from edgeft.rundir import Recipe

# A stage's number goes up when its code writes something else for equal inputs: what it made before is then stale.
STAGE_VERSIONS = dict.fromkeys(STAGES, 1)
STAGE_VERSIONS |= {"tokens": 3, "train": 2, "quantize": 2, "reference": 3, "parity": 5, "eval": 2}
"""Part of every artifact's key."""


@dataclass(frozen=True)
class Step:
    """What a run will do about one artifact: `why` it has to be made, or "" when it is up to date."""

    node: Node
    why: str


class Pipeline:
    """Plans and runs the artifacts of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._to_train = False
        self._nodes = {node.name: node for node in graph.nodes()}

    def plan(self, stages: Sequence[str] = (), force: bool = False) -> list[Step]:
        """Returns what has to be done for `stages` (all when empty) and everything they need, in order.

        With `force` the artifacts of the named stages are made again though they are up to date. Raises EdgeftError for
        an unknown stage, and for a base model or records that are not there.
        """
        require_sources(self.graph)
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown:
            raise EdgeftError(f"unknown stage {unknown[0]!r}", remedy=nearest(unknown[0], STAGES))
        named = [
            node.name for node in self._nodes.values() if (node.stage in stages if stages else not node.on_request)
        ]
        wanted = self._with_needs(named)
        steps: list[Step] = []
        remade: set[str] = set()
        for name in (name for name in self._nodes if name in wanted):
            why = "forced" if force and name in named else self._why(self._nodes[name], remade)
            if why:
                remade.add(name)
            steps.append(Step(self._nodes[name], why))
        return steps

    def require_possible(self, steps: Sequence[Step]) -> None:
        """Checks what would fail late: raises EdgeftError before anything is made that could never be finished.

        What needs a base that has yet to be imported is checked once it is.
        """
        todo = {step.node.stage for step in steps if step.why}
        self._to_train = not todo.isdisjoint(("tokens", "train"))
        if "import" in todo:
            require_importable(self.graph)
        elif self._to_train:
            require_trainable(self.graph)

    def execute(self, step: Step, progress: Progress) -> float | None:
        """Makes one artifact and returns the seconds it took, or None when its inputs turned out to be unchanged."""
        recipe = self._recipe(step.node)
        run = self.graph.run
        if step.why.startswith("follows") and not self.why_stale(step):
            return None
        started = time.monotonic()
        with run.produce(step.node.name, recipe, resumable=step.node.resumable) as out:
            step.node.make(out, progress)
        if step.node.stage == "import" and self._to_train:
            require_trainable(self.graph)
        return time.monotonic() - started

    def why_stale(self, step: Step) -> str:
        """Returns why an artifact has to be made, now that everything it needs has been, or ""."""
        return self.graph.run.why_stale(step.node.name, self._recipe(step.node))

    def _with_needs(self, names: Iterable[str]) -> set[str]:
        wanted: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in wanted:
                wanted.add(name)
                queue += self._nodes[name].needs
        return wanted

    def _why(self, node: Node, remade: set[str]) -> str:
        following = [name for name in node.needs if name in remade]
        if not following:
            return self.graph.run.why_stale(node.name, self._recipe(node))
        missing = self.graph.run.manifest(node.name) is None
        return "missing" if missing else f"follows {', '.join(following)}"

    def _recipe(self, node: Node) -> Recipe:
        """What decides an artifact's content now. Everything it needs must have been made."""
        run = self.graph.run
        inputs = {name: run.input_hash(path) for name, path in node.sources.items()}
        inputs |= {name: run.content_hash(name) for name in node.needs}
        return Recipe(node.stage, STAGE_VERSIONS[node.stage], node.config, inputs, node.open_until_used)
