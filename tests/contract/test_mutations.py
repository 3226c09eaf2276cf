"""The list of mutations stays one of lines that exist, and the copy they are made in is ours (rule 10.2)."""

from __future__ import annotations

from pathlib import Path

from scripts.mutations import Mutation, digest_of, mirror, pick, read_list, seed_of, stale

MUTATIONS = read_list()


def test_every_mutation_changes_a_line_that_stands_once() -> None:
    assert stale(MUTATIONS) == []
    assert len(MUTATIONS) == len(set(MUTATIONS)) >= 28
    for rust in (False, True):
        assert sum(one.is_rust is rust for one in MUTATIONS) >= 10


def test_a_line_that_is_gone_or_stands_twice_is_stale(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    said = stale(
        [
            Mutation("sound", "a.py", "x = 1", "x = 2"),
            Mutation("gone", "a.py", "z = 1", "z = 2"),
            Mutation("twice", "a.py", " = 1", " = 2"),
            Mutation("no file", "b.py", "x = 1", "x = 2"),
            Mutation("no change", "a.py", "y = 1", "y = 1"),
            Mutation("two lines", "a.py", "y = 1", "y = 1\nz = 1"),
        ],
        tmp_path,
    )
    assert [line.rpartition("stands ")[2] for line in said[:3]] == [
        f"{times} times, expected once" for times in (0, 2, 0)
    ]
    assert [line.endswith("expected one line changed") for line in said] == [False] * 3 + [True] * 2


def test_other_mutations_are_picked_with_every_commit() -> None:
    picks = [pick(MUTATIONS, 6, f"commit {n:040x}") for n in range(200)]
    assert pick(MUTATIONS, 6, f"commit {7:040x}") == picks[7]
    assert all(len(set(one)) == 6 and sum(m.is_rust for m in one) == 3 for one in picks)
    assert len({frozenset(one) for one in picks}) > 190
    assert {m for one in picks for m in one} == set(MUTATIONS)
    assert set(pick(MUTATIONS, len(MUTATIONS), "any")) == set(MUTATIONS)


def test_without_a_repository_the_sources_choose(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 1\n")
    before = digest_of(tmp_path)
    assert seed_of(tmp_path) == f"sources {before}"
    (tmp_path / "src" / "a.py").write_text("x = 2\n")
    assert digest_of(tmp_path) != before


def test_the_copy_becomes_what_the_sources_are(tmp_path: Path) -> None:
    root, tree = tmp_path / "root", tmp_path / "tree"
    for name in ("src/a.py", "src/b.py", "src/__pycache__/a.pyc", "src/lib.so", "Cargo.toml", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    mirror(root, tree)
    copied = {"src/a.py", "src/b.py", "Cargo.toml"}
    assert {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()} == copied
    times = {name: (tree / name).stat().st_mtime_ns for name in copied}
    (tree / "src" / "a.py").write_text("a mutation somebody interrupted")
    (tree / "src" / "lib.so").write_text("built")
    (root / "src" / "b.py").unlink()
    mirror(root, tree)
    assert (tree / "src" / "a.py").read_text() == "src/a.py"
    assert not (tree / "src" / "b.py").exists()
    assert (tree / "src" / "lib.so").exists()
    assert (tree / "Cargo.toml").stat().st_mtime_ns == times["Cargo.toml"]
