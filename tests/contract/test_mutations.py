"""The list of mutations stays one of lines that exist (rule 10.2)."""

from __future__ import annotations

from scripts.mutations import read_list, stale


def test_every_mutation_changes_a_line_that_stands_once() -> None:
    mutations = read_list()
    assert stale(mutations) == []
    assert len(mutations) >= 20
    assert {one.file.rpartition(".")[2] for one in mutations} == {"py", "rs"}
