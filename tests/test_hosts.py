"""Host patterns: what they match, what they expand to, and how a set of names is written."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.errors import SonarError
from sonar.hosts import HostPatterns, compress, expand, names_in

_HOSTS = ["a1.x.no", "a2.x.no", "a1", "a10.x.no", "b1.y", "ml1-a.x", "a1.x", "n01.q", ""]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("a1", ["a1.x.no", "a1", "a1.x"]),
        ("a*", ["a1.x.no", "a2.x.no", "a1", "a10.x.no", "a1.x"]),
        ("a[1-2].x", ["a1.x.no", "a2.x.no", "a1.x"]),
        ("a[1-2]*", ["a1.x.no", "a2.x.no", "a1", "a10.x.no", "a1.x"]),
        ("a1.x.no.y", []),
        ("b1,a2", ["a2.x.no", "b1.y"]),
        ("b1.y, a2.x", ["a2.x.no", "b1.y"]),
        ("a[1-2][0-1]", ["a10.x.no"]),
        ("n[01]", ["n01.q"]),
        ("n[1]", []),
        ("ml[1]-a", ["ml1-a.x"]),
        ("*", _HOSTS),
        ("A1", []),
    ],
)
def test_pattern_matches_elements_from_the_left(pattern: str, matched: list[str]) -> None:
    patterns = HostPatterns.parse([pattern])

    assert [host for host in _HOSTS if patterns.match(host)] == matched


@pytest.mark.parametrize(
    ("values", "host", "match"),
    [
        (["ml8"], "ml8.hpc.example", True),
        (["ml3.hpc"], "ml3.hpc.example", True),
        (["*"], "anything.at.all", True),
        (["ml3.hpc"], "ml3.fox.example", False),
        (["ml[1-3]*"], "ml1", True),
        (["ml[1-3]*"], "ml1x", True),
        (["ml[1-3]*"], "ml1.example", True),
        (["ml[1-3]*"], "ml4", False),
        (["ml1"], "ml10", False),
        (["ml1.hpc.example.more"], "ml1.hpc.example", False),
        (["a", "b"], "b.c", True),
        (["c[1-3]-[2,4]"], "c2-3", False),
        (["c[1-3]-[2,4]"], "c2-4.fox", True),
        ([], "anything.at.all", True),
    ],
)
def test_any_of_several_patterns_is_enough(values: list[str], host: str, match: bool) -> None:
    assert HostPatterns.parse(values).match(host) is match


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "Empty pattern in input"),
        ("a.", "Empty pattern in input"),
        (".a", "Empty pattern in input"),
        ("a..x", "Empty pattern in input"),
        ("a,", "Empty pattern in input"),
        ("a[]", "Expected number"),
        ("a[", "Expected number"),
        ("a[1-]", "Expected number"),
        ("a[-1]", "Expected number"),
        ("a[1,]", "Expected number"),
        ("a[x]", "Expected number"),
        ("a[1", "Unexpected end of input"),
        ("a[1,2.x", "Unexpected end of input|Expected ,"),
        ("a**", "Expected ,"),
        ("a*b", "Expected ,"),
        ("a[1;2]", "Expected ,"),
        ("a[4294967296]", "Number too large"),
        ("a[" + "9" * 5000 + "]", "Number too large"),
        ("n[3-1]", "Backward range 3-1"),
        ("n[0-100000]", "more than 100000 names"),
        ("n[0-999][0-999]", "more than 100000 names"),
        ("n[" + ",".join(["0-99999"] * 1000) + "]", "more than 100000 names"),
        (".".join(["n[0-99999]"] * 1000), "more than 100000 names"),
        (",".join(["n[0-99999]"] * 1000), "more than 100000 names"),
        ("n[0-99999]" + "x" * 8000, "Name too long"),
    ],
)
def test_bad_pattern_is_told_with_its_text(pattern: str, message: str) -> None:
    with pytest.raises(SonarError, match=message):
        HostPatterns.parse([pattern])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("c1-[0-1],c2-[2-3]", ["c1-0", "c1-1", "c2-2", "c2-3"]),
        ("c1-0,c2-0", ["c1-0", "c2-0"]),
        ("c2-[1,3,5]", ["c2-1", "c2-3", "c2-5"]),
        ("c2-[1-3,5]", ["c2-1", "c2-2", "c2-3", "c2-5"]),
        ("c3-[5,9],c5-[15-17]", ["c3-5", "c3-9", "c5-15", "c5-16", "c5-17"]),
        ("c3-[1-3,5,9-12]", ["c3-1", "c3-2", "c3-3", "c3-5", "c3-9", "c3-10", "c3-11", "c3-12"]),
        ("hi[1-2]*", ["hi1*", "hi2*"]),
        ("a[1-2]b[3-4]", ["a1b3", "a1b4", "a2b3", "a2b4"]),
        ("ab[1-2,4].cd[3]", ["ab1.cd3", "ab2.cd3", "ab4.cd3"]),
        ("a[1-2].b[1-2]", ["a1.b1", "a1.b2", "a2.b1", "a2.b2"]),
        ("n[08-10]", ["n08", "n09", "n10"]),
        ("n[001]", ["n001"]),
        ("a]b", ["a]b"]),
    ],
)
def test_pattern_expands_in_the_order_written(pattern: str, names: list[str]) -> None:
    assert expand(pattern, wildcards=True) == names


def test_wildcard_cannot_be_expanded_to_names() -> None:
    with pytest.raises(SonarError, match="Suffix wildcard not allowed"):
        expand("c1-*")


def test_expansion_over_several_elements_is_bounded() -> None:
    with pytest.raises(SonarError, match="more than 100000 names"):
        expand("a[1-1000].b[1-1000]")


def test_expansion_over_several_patterns_is_bounded() -> None:
    with pytest.raises(SonarError, match="more than 100000 names"):
        expand("a[1-60000],b[1-60000]")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["x"], "x"),
        (["a", "b"], "a,b"),
        (["a1", "a3", "a2", "a5"], "a[1-3,5]"),
        (["a3.fox", "a1.fox", "a3.fum", "a2.fox", "a5.fox"], "a[1-3,5].fox,a3.fum"),
        (["c1-10", "c1-9"], "c1-[9-10]"),
        (["a1", "b1"], "a1,b1"),
        (["c1-1", "c1-2", "c2-1"], "c1-[1-2],c2-1"),
        (["ml8.hpc.example", "ml1.hpc.example"], "ml[1,8].hpc.example"),
        (["x", "a9", "a10", "a11.q"], "a[9-10],x,a11.q"),
        (["a1", "b", "a2"], "a[1-2],b"),
        (["a1", "a1x", "a2"], "a[1-2],a1x"),
        (["1", "2"], "1,2"),
        (["n01", "n02"], "n[01-02]"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["n1", "n01"], "n01,n1"),
        (["n01", "n99", "n100"], "n[01,99],n100"),
        (["nid000001.x"], "nid000001.x"),
        (["gpu-4-ib.fox", "gpu-5-ib.fox", "gpu-6-ib.fox"], "gpu-[4-6]-ib.fox"),
        (["a1.b1", "a2.b2"], "a1.b1,a2.b2"),
        (["a1.x", "a1.x", "a2.x"], "a[1-2].x"),
        (["a99999999999999999999", "a99999999999999999998"], "a99999999999999999998,a99999999999999999999"),
        (["a" + "9" * 5000, "a1"], "a1,a" + "9" * 5000),
        (["a1.x", "a1.x.y", "a1"], "a1,a1.x,a1.x.y"),
    ],
)
def test_names_that_differ_in_one_number_are_written_together(names: list[str], text: str) -> None:
    assert compress(names) == text
    assert compress(reversed(names)) == text


_ELEMENT = st.text(alphabet="ab-_019" + string.ascii_uppercase[:2], min_size=1, max_size=6)
_NUMBERED = st.builds("{}{}{}".format, st.sampled_from(["n", "c1-"]), st.integers(0, 120), st.sampled_from(["", "-ib"]))
_PADDED = st.builds("n{:03d}".format, st.integers(0, 1200))
_NAME = st.builds(
    lambda head, tail: ".".join([head, *tail]),
    _ELEMENT | _NUMBERED | _PADDED,
    st.lists(st.sampled_from(["fox", "x", "no", "b1"]), max_size=2),
)


@given(st.sets(_NAME, min_size=1, max_size=40))
def test_expanding_a_compressed_set_gives_the_set_back(names: set[str]) -> None:
    expanded = expand(compress(names))

    assert len(expanded) == len(names)
    assert set(expanded) == names


@pytest.mark.parametrize("odd", ["b*c", "c]", "", "d[x]", "n[1-9999999]", "e.*f..", "x" * 300])
def test_names_that_are_no_patterns_stay_as_they_are(odd: str) -> None:
    assert set(names_in(compress(["n1.fox", "n2.fox", odd]))) == {"n1.fox", "n2.fox", odd}


@given(st.sets(st.text("a1[]*-.,", max_size=8), max_size=6))
def test_names_of_any_kind_are_no_error(names: set[str]) -> None:
    assert names_in(compress(names)) or not names


@given(st.sets(_NAME, min_size=1, max_size=20), _NAME)
def test_compressed_set_as_a_pattern_matches_its_names(names: set[str], other: str) -> None:
    patterns = HostPatterns.parse([compress(names)])

    assert all(patterns.match(name) for name in names)
    assert patterns.match(other) == any(other == name or other.startswith(name + ".") for name in names)
