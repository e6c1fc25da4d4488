"""Every schedule of a shape under the same costs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from plait import _core
from plait.costs import CostsLike, as_costs
from plait.errors import InvalidInput
from plait.price import Price

__all__ = ["Comparison", "compare"]


class Comparison(Sequence[Price]):
    """Prices of schedules, the fastest first; in a notebook it is a table.

    Attributes:
        left_out: names of schedules that the shape or the cap does not have, and why.
        tried: how many lowerings were proven and priced.
        kept_out_by_memory: the best that holds too much, if it is faster than all that fit; else None.
    """

    def __init__(
        self, prices: Sequence[Price], left_out: dict[str, str], tried: int, kept_out_by_memory: Price | None
    ) -> None:
        self._prices = tuple(prices)
        self.left_out = left_out
        self.tried = tried
        self.kept_out_by_memory = kept_out_by_memory

    def __len__(self) -> int:
        return len(self._prices)

    def __iter__(self) -> Iterator[Price]:
        return iter(self._prices)

    def __getitem__(self, which: int | str) -> Price:  # type: ignore[override]
        """By place, or by a schedule's name.

        Raises:
            KeyError: a name that is not there, with why.
        """
        if isinstance(which, int):
            return self._prices[which]
        for price in self._prices:
            if price.schedule == which:
                return price
        raise KeyError(f"{which}: {self.left_out.get(which, 'is no schedule')}")

    def rows(self) -> list[dict[str, object]]:
        """A row for each schedule, as pandas.DataFrame takes them; times in nanoseconds."""
        return [
            {
                "schedule": price.schedule,
                "chunks": price.chunks,
                "makespan_ns": price.makespan_ns,
                "worst_idle_share": float(price.idle_share.max()),
                "above_bound_ns": price.above_bound_ns,
                "peak_bytes" if price.peak_bytes is not None else "peak_activations": _peak(price),
                "pair_coverage": price.pair_coverage,
                **price.lowering,
            }
            for price in self
        ]

    def _repr_html_(self) -> str:
        rows = self.rows()
        if not rows:
            return "<p>no schedule fits</p>"
        head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{_shown(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        best = f", best {self._prices[0].schedule} {self._prices[0].makespan_ns} ns" if self._prices else ""
        return f"<plait.Comparison {len(self)} schedules{best}, {len(self.left_out)} left out>"


def compare(
    *,
    ranks: int,
    microbatches: int,
    costs: CostsLike = None,
    chunks: int | None = None,
    any_m: bool = False,
    memory: float | str | None = None,
    max_active_stages: int | str | None = None,
    unshard_lookahead: str = "full",
    exact_bound: bool = False,
) -> Comparison:
    """Generates, proves and prices every schedule of a shape: ``plait compare``.

    Args:
        ranks, microbatches: P and M.
        costs: of a rank's whole share, whatever its number of stages V; F, I and W of a share take 12 ns
            unless given. Lists by stage are refused.
        chunks: V, where a schedule leaves a choice.
        any_m: also for an M outside the schedules' own limits.
        memory: the most that a rank may hold: activations of its whole share (4.5), or bytes ("64GiB").
        max_active_stages: lower the schedules first, with so many stages of a rank unsharded at a time;
            "any" for the best number.
        unshard_lookahead: of that lowering: "full", "auto", numbers with commas, or "any".
        exact_bound: bound by the best order of one rank, the others as delays: tighter, and slow.

    Raises:
        InvalidInput: costs that are lists, a cap in bytes without costs in bytes.

    >>> plait.compare(ranks=4, microbatches=12, costs={"f_ns": 100, "i_ns": 100, "w_ns": 80}, memory=4)
    """
    any_active = max_active_stages == "any"
    if isinstance(max_active_stages, str) and not any_active:
        raise InvalidInput(f"found '{max_active_stages}', needed any or a number", argument="max_active_stages")
    active = max_active_stages if isinstance(max_active_stages, int) else None
    if max_active_stages is None and unshard_lookahead != "full":
        raise InvalidInput("is of a lowering, needed max_active_stages too", argument="unshard_lookahead")
    rows, left_out, tried, kept_out = _core.compare(
        ranks, microbatches, chunks or 0, any_m, "" if memory is None else str(memory), as_costs(costs)._handle,
        active, any_active, unshard_lookahead, exact_bound,
    )  # fmt: skip
    lowered = max_active_stages is not None

    def price(row: tuple[_core.Price, int, str]) -> Price:
        handle, stages, lookahead = row
        lowering: dict[str, int | str] = {}
        if lowered:
            lowering = {"max_active_stages": stages, "unshard_lookahead": lookahead}
        return Price(handle, lowering)

    return Comparison(
        [price(row) for row in rows], dict(left_out), tried, None if kept_out is None else price(kept_out)
    )


def _peak(price: Price) -> float | int:
    if price.peak_bytes is not None:
        return int(price.peak_bytes.max())
    return float(price.peak_activations.max()) / price.chunks


def _shown(value: object) -> str:
    return html.escape(f"{value:.3f}" if isinstance(value, float) else str(value))
