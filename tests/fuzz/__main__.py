"""Checks random programs: ``python -m tests.fuzz --help``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable

import torch

from .campaign import MODES, Tally, explain, mode_of, program_of, run
from .captured import check_captured
from .check import Outcome, check
from .generate import generate
from .grammar import Mode, Program
from .plants import PLANTS
from .source import compiled


def search(programs: Iterable[Program], stop: int) -> tuple[int, Tally]:
    """Prints the programs at fault, made small, until ``stop`` were found."""
    found = 0

    def fault(program: Program, outcome: Outcome) -> bool:
        nonlocal found
        found += 1
        print(explain(program, outcome), flush=True)
        return found < stop

    tally = run(programs, fault)
    return found, tally


def plant(name: str) -> int:
    """Looks for a planted fault; 0 if it was found."""
    planted = PLANTS[name]
    for number, program in enumerate(planted.programs(), start=1):
        outcome = planted.found_by(program)
        if outcome is not None:
            print(f"{compiled(program).source}\n{outcome.detail}")
            print(f"{name}: found in program {number}, seed {program.seed}", flush=True)
            return 0
    print(f"{name}: NOT found within {planted.within} programs", flush=True)
    return 1


def captured(seeds: range) -> int:
    """Compares captured steps with eager ones."""
    counts: Counter = Counter()
    for program in map(program_of, seeds):
        outcome = check_captured(program)
        counts[outcome.status] += 1
        if outcome.fault:
            print(f"{compiled(program).source}\nseed {program.seed}: {outcome}", flush=True)
    print(dict(counts))
    return int(any(counts[status] for status in ("wrong", "failed")))


def one(seed: int, mode: Mode, broadcasting: bool | None) -> int:
    program = generate(seed, mode, broadcasting)
    outcome = check(program)
    print(compiled(program).source)
    print(program, outcome.status, outcome.detail, sep="\n")
    return int(outcome.fault)


def main(args: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    if args.plant:
        return max(plant(name) for name in (PLANTS if args.plant == "all" else [args.plant]))
    if args.seed is not None:
        named = {str(mode): mode for mode in MODES}
        mode = named.get(args.mode, mode_of(args.seed))
        return one(args.seed, mode, {"yes": True, "no": False}.get(args.broadcasting))
    if args.captured:
        return captured(range(args.start, args.start + args.captured))
    programs: Iterable[Program] = map(program_of, range(args.start, args.start + args.programs))
    if args.mode != "each":
        programs = (program for program in programs if str(program.mode) == args.mode)
    found, tally = search(programs, args.stop)
    print(tally)
    refusing = tally.refusing()
    print(*refusing, sep="\n")
    return int(bool(found or refusing))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=2000, help="how many (%(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--stop", type=int, default=10, help="stop after so many faults")
    modes = [*map(str, MODES), "each"]
    parser.add_argument("--mode", default="each", choices=modes, help="each: one after the other")
    parser.add_argument(
        "--captured", type=int, help="compare captured steps of so many with eager ones"
    )
    parser.add_argument("--plant", choices=[*PLANTS, "all"], help="plant a fault and look for it")
    parser.add_argument("--seed", type=int, help="print and check one program")
    parser.add_argument("--broadcasting", choices=["yes", "no", "any"], default="any")
    sys.exit(main(parser.parse_args()))
