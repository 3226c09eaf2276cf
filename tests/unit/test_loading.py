"""Feature sets from files, and the errors that files earn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import (
    FeaturePlaneError,
    PlanError,
    SettingError,
    UnknownFeatureSet,
    UnreadableFile,
)
from featureplane.features import kernels as k
from featureplane.features.catalog import feature_set, registry
from featureplane.features.loading import FILE_BYTES_MAX, load_feature_set, resolve_feature_set, to_toml
from featureplane.features.spec import Feature, FeatureFlags, FeatureSet
from featureplane.features.syntax import parse_expression
from tests.unit.test_plan import EVERY_CONSTRUCTOR, expressions

MINE = """\
id = "my_alpha_v1"
schema_version = 3

[features]
ofi = "ofi(level=1)"
ofi_1s = "sum_over(ofi, seconds=1)"
skew = "(ofi_1s - ofi) * 2 / depth('bid', levels=5)"

[features.spread_z]
expression = "zscore(spread(), window=256)"
name = "spread, z-score"
flags = ["MODEL_SAFE"]
note = "how unusual"
"""


def written(folder: Path, text: str | bytes, name: str = "set.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_toml_file_is_the_set_written_in_python(tmp_path: Path) -> None:
    ofi = k.ofi(level=1)
    ofi_1s = k.sum_over(ofi, seconds=1)
    assert load_feature_set(written(tmp_path, MINE)) == FeatureSet(
        "my_alpha_v1",
        schema_version=3,
        features={
            "ofi": ofi,
            "ofi_1s": ofi_1s,
            "skew": (ofi_1s - ofi) * 2 / k.depth("bid", 5),
            "spread_z": Feature(
                k.zscore(k.spread(), 256), "spread, z-score", FeatureFlags.MODEL_SAFE, "how unusual"
            ),
        },
    )


@pytest.mark.parametrize("set_id", registry)
def test_a_shipped_set_goes_to_toml_and_back(set_id: str, tmp_path: Path) -> None:
    fset = feature_set(set_id)
    again = load_feature_set(written(tmp_path, to_toml(fset)))
    assert again == fset
    assert again.fingerprint == fset.fingerprint


def test_every_constructor_goes_to_toml_and_back(tmp_path: Path) -> None:
    fset = FeatureSet("all", features={f"x_{name}": x for name, x in EVERY_CONSTRUCTOR.items()})
    assert load_feature_set(written(tmp_path, to_toml(fset))) == fset


def test_earlier_features_are_written_by_name() -> None:
    fset = FeatureSet(
        "s", features={"a": k.spread() + 1, "b": k.ema(k.spread() + 1, 8), "c": k.spread() + 1.0}
    )
    assert 'expression = "ema(a, span=8)"' in to_toml(fset)
    assert 'expression = "spread() + 1.0"' in to_toml(fset)


texts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(st.lists(st.tuples(expressions, texts, texts, st.integers(0, 3)), min_size=1, max_size=5))
def test_any_set_goes_to_toml_and_back(
    tmp_path_factory: pytest.TempPathFactory, given_features: list[tuple[k.Expression, str, str, int]]
) -> None:
    fset = FeatureSet(
        "any-set.v1",
        features={
            f"f{i}": Feature(x, name, FeatureFlags(flags), note)
            for i, (x, name, note, flags) in enumerate(given_features)
        },
    )
    path = written(tmp_path_factory.mktemp("sets"), to_toml(fset))
    assert load_feature_set(path) == fset


@given(expressions)
def test_any_expression_reads_back_from_its_text(expression: k.Expression) -> None:
    assert parse_expression("x", str(expression), {}) == expression


def one(expression: str) -> str:
    return f'id = "s"\n[features]\na = "spread()"\nx = {expression!r}\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param(one("zscore(ema(spread(), span=8), window=9)"), 4, "over a float", id="compiler"),
        pytest.param(one("ema(spread(), spam=8)"), 4, "expected ema(x, span)", id="keyword"),
        pytest.param(
            one("ema(spread())"),
            4,
            "found ema: missing a required argument: 'span', expected ema(",
            id="argument missing",
        ),
        pytest.param(one("emma(spread(), 8)"), 4, "kernel 'emma'", id="unknown kernel"),
        pytest.param(one("b + 1"), 4, "name 'b'", id="unknown name"),
        pytest.param(one("x + 1"), 4, "name 'x'", id="itself"),
        pytest.param(one("spread"), 4, "without parentheses", id="a kernel without parentheses"),
        pytest.param(one("1 + 2"), 4, "reads the book", id="a number"),
        pytest.param(one(""), 4, "an expression of", id="nothing"),
        pytest.param(one("spread() +"), 4, "an expression of", id="half an expression"),
        pytest.param(one("spread() ** 2"), 4, "only kernel calls", id="power"),
        pytest.param(one("__import__('os').system('x')"), 4, "only kernel calls", id="attribute"),
        pytest.param(one("__import__('os')"), 4, "kernel '__import__'", id="import"),
        pytest.param(one("[x for x in (1,)]"), 4, "only kernel calls", id="comprehension"),
        pytest.param(one("(lambda: 1)()"), 4, "only kernel calls", id="lambda"),
        pytest.param(one("ema(**a)"), 4, "by place or by name", id="stars"),
        pytest.param(one("ema(*a)"), 4, "only kernel calls", id="a star"),
        pytest.param(one("spread() + 'a'"), 4, "numbers and expressions", id="text in arithmetic"),
        pytest.param(one("spread() + True"), 4, "numbers and expressions", id="truth in arithmetic"),
        pytest.param(
            one("spread() / (1 - 1)"), None, "", id="division by a zero constant is a kernel's matter"
        ),
        pytest.param(one("spread() + 1 / 0"), 4, "a number", id="division of numbers by zero"),
        pytest.param(one(f"spread() + {2**62} * 4"), 4, "magnitude", id="a large number"),
        pytest.param(one("-" * 5000 + "spread()"), 4, "", id="deep signs"),
        pytest.param(one("(" * 5000 + ")" * 5000), 4, "", id="deep parentheses"),
        pytest.param(one("spread()" + " + 1" * 5000), 4, "", id="long sum"),
        pytest.param(one("bucket(spread(), 3)"), 4, "ascending numbers", id="edges that are none"),
        pytest.param(one("ema(spread(), a)"), 4, "an integer from", id="a feature as span"),
        pytest.param(one("ema('spread', 8)"), 4, "a number", id="text as input"),
        pytest.param('id = "s"\n[features]\na = 3\n', 3, "a int", id="a number for an expression"),
        pytest.param('id = "s"\n[features.a]\nname = "n"\n', 2, "an expression as text", id="no expression"),
        pytest.param(
            'id = "s"\n[features.a]\nexpression = "spread()"\nflags = ["GOOD"]\n', 2, "'GOOD'", id="flag"
        ),
        pytest.param(
            'id = "s"\n[features.a]\nexpression = "spread()"\nname = 3\n', 2, "name or note", id="title"
        ),
        pytest.param('[features]\na = "spread()"\n', None, "feature set id ''", id="no id"),
        pytest.param(
            'id = "s"\nschema_version = "1"\n[features]\na = "spread()"\n', None, "'1'", id="version"
        ),
        pytest.param('id = "s"\n[features]\nseq = "spread()"\n', 3, "column of this name", id="reserved id"),
        pytest.param('id = "s"\n[features]\n"a b" = "spread()"\n', 3, "feature id 'a b'", id="bad id"),
    ],
)
def test_a_mistake_in_toml_is_told_with_its_line(
    text: str, line: int | None, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    if not words and line is None:
        assert len(load_feature_set(path)) == 2
        return
    with pytest.raises(PlanError) as raised:
        load_feature_set(path)
    assert str(raised.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        pytest.param('id = "s"\n[features\n', "s.toml", "s.toml:2: found no TOML", id="no TOML"),
        pytest.param('id = "s"\nid = "t"\n', "s.toml", "no TOML", id="a key twice"),
        pytest.param('id = "s"\n', "s.toml", "no [features] table", id="no features"),
        pytest.param(
            'id = "s"\nfeatures = []\n', "s.toml", "no [features] table", id="features of another kind"
        ),
        pytest.param(
            'id = "s"\nname = "t"\n[features]\na = "ofi()"\n', "s.toml", "s.toml:2: found key", id="key"
        ),
        pytest.param(
            '[features.a]\nexpression = "ofi()"\nspan = 8\n', "s.toml", "s.toml:3: found key", id="inner"
        ),
        pytest.param(b'id = "s"\n# \xff\n', "s.toml", "s.toml:2: found byte 0xff", id="not UTF-8"),
        pytest.param(b"#" * (FILE_BYTES_MAX + 1), "s.toml", "more than", id="too large"),
        pytest.param("x = " + "[" * 10_000, "s.toml", "too deep", id="too deep"),
        pytest.param("{}", "s.json", "ending in '.json'", id="another format"),
    ],
)
def test_a_file_that_is_no_set_is_refused(
    content: str | bytes, name: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableFile) as raised:
        load_feature_set(written(tmp_path, content, name))
    assert words in str(raised.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        load_feature_set(tmp_path / "nowhere.toml")


def test_python_is_not_run_unless_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n", "mine.py")
    with pytest.raises(SettingError, match="a Python file is code that is run") as raised:
        load_feature_set(path)
    assert "--allow-code" in str(raised.value.hint)
    assert not (tmp_path / "ran").exists()


CODE = """\
from featureplane.features import kernels as k
from featureplane.features.catalog import LOB_SHARED_V1
from featureplane.features.spec import FeatureSet

mine = FeatureSet("mine", features={f"ofi_{n}": k.ofi(n) for n in range(1, 4)})
"""


def test_python_leaves_its_set_when_allowed(tmp_path: Path) -> None:
    fset = load_feature_set(written(tmp_path, CODE, "mine.py"), allow_code=True)
    assert list(fset) == ["ofi_1", "ofi_2", "ofi_3"]
    two = CODE + 'feature_set = FeatureSet("chosen", features={"a": k.ofi()})\n'
    assert load_feature_set(written(tmp_path, two, "two.py"), allow_code=True).feature_set_id == "chosen"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param("x = 1\nx / 0\n", ":2: found code that fails (ZeroDivisionError", id="an exception"),
        pytest.param("x = (\n", ":1: found code that fails (SyntaxError", id="no Python"),
        pytest.param("raise SystemExit(3)\n", ":1: found code that fails (SystemExit", id="an exit"),
        pytest.param("x = 1\n", "0 feature sets of its own", id="no set"),
        pytest.param(
            CODE + 'b = FeatureSet("b", features={"a": k.ofi()})\n', "2 feature sets", id="two sets"
        ),
        pytest.param(
            CODE + 'b = FeatureSet("b", features={"a": k.ofi(0)})\n', "mine.py:6: `a`: found ofi", id="plan"
        ),
    ],
)
def test_code_that_leaves_no_set_is_told(code: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FeaturePlaneError) as raised:
        load_feature_set(written(tmp_path, code, "mine.py"), allow_code=True)
    assert words in str(raised.value)


def test_a_set_is_found_by_id_or_by_file(tmp_path: Path) -> None:
    assert resolve_feature_set("lob_shared_v1") is feature_set("lob_shared_v1")
    assert resolve_feature_set(written(tmp_path, MINE)).feature_set_id == "my_alpha_v1"
    with pytest.raises(UnknownFeatureSet, match="lob_shared_v3"):
        resolve_feature_set("lob_shared_v3")


def test_the_page_on_feature_sets_shows_one_set_in_two_forms(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "concepts" / "feature-sets.md"
    blocks = re.findall(r"```(python|toml)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "toml", "toml"]
    code, file, profile = (text for _, text in blocks)
    made = load_feature_set(written(tmp_path, code, "mine.py"), allow_code=True)
    assert load_feature_set(written(tmp_path, file)) == made
    assert load_feature_set(written(tmp_path, profile)).feature_set_id == "lob_shared_v2@slow"


def test_a_python_file_that_is_not_there_is_missing_and_not_distrusted(tmp_path: Path) -> None:
    for allowed in (False, True):
        with pytest.raises(UnreadableFile, match=r"none\.py: found no readable file"):
            load_feature_set(tmp_path / "none.py", allow_code=allowed)


@pytest.mark.parametrize(
    ("typed", "hint"), [("emma", "did you mean ema"), ("OFI", "ofi"), ("rsi", "lists them all")]
)
def test_an_unknown_kernel_is_told_the_nearest_and_where_they_stand(
    typed: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'id = "mine"\n[features]\nx = "{typed}()"\n')
    with pytest.raises(PlanError, match=r"docs/reference/kernels\.md") as refused:
        load_feature_set(path)
    assert hint in str(refused.value.hint)
