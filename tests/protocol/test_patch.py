from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.patch import PatchError, apply, diff, same, size_bytes, step

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 0.0, -0.0, 1.0, "", "0"])
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
keys = st.sampled_from(["", "a", "b", "0", "-", "~", "/", "~1", "~01", "a/b"]) | st.text(max_size=3)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)
small = st.recursive(
    st.sampled_from([0, False, 1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=8,
)


def text(value: object) -> str:
    """Equal only for the same JSON with the same types: what travels, in one order of members."""
    return json.dumps(value, sort_keys=True)


def ops(old: object, new: object) -> list[tuple[str, str]]:
    return [(op["op"], op["path"]) for op in diff(old, new)]


@given(values | small, values | small)
def test_a_diff_applied_to_the_old_value_gives_the_new_one(old: object, new: object) -> None:
    assert text(apply(old, diff(old, new))) == text(new)


@given(small, small)
def test_a_diff_of_similar_values_applied_gives_the_new_one(old: object, new: object) -> None:
    assert text(apply(old, diff(old, new))) == text(new)


@given(values, values)
def test_a_diff_means_the_same_to_another_library(old: object, new: object) -> None:
    assert text(jsonpatch.apply_patch(old, json.loads(json.dumps(diff(old, new))))) == text(new)


@given(values, values)
def test_a_diff_is_empty_only_for_the_same_value(old: object, new: object) -> None:
    assert (diff(old, new) == []) == same(old, new) == (text(old) == text(new))


@given(values)
def test_a_value_does_not_differ_from_its_copy(value: object) -> None:
    assert diff(value, deepcopy(value)) == []
    assert same(value, deepcopy(value))


@given(values, values)
def test_diff_and_apply_leave_their_inputs_alone(old: object, new: object) -> None:
    before = text([old, new])
    patch = diff(old, new)
    assert text([old, new]) == before
    sent = text(patch)
    apply(old, patch)
    assert text([old, new]) == before
    assert text(patch) == sent


@given(values, values)
def test_a_diff_only_adds_removes_and_replaces(old: object, new: object) -> None:
    for op in diff(old, new):
        assert set(op) == ({"op", "path"} if op["op"] == "remove" else {"op", "path", "value"})
        assert op["op"] in {"add", "remove", "replace"}


@pytest.mark.parametrize(
    "old, new", [(0, False), (1, True), (1, 1.0), (0.0, -0.0), (False, None), ("1", 1), ([], {}), ("", None), (0, -0.0)]
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: [{"a": [x]}]])
def test_values_that_python_mixes_up_differ(old: object, new: object, wrap: Any) -> None:
    for one, other in [(old, new), (new, old)]:
        assert not same(wrap(one), wrap(other))
        assert [(op["op"], type(op["value"])) for op in diff(wrap(one), wrap(other))] == [("replace", type(other))]
        assert text(apply(wrap(one), diff(wrap(one), wrap(other)))) == text(wrap(other))


def test_values_that_python_mixes_up_differ_in_lists_that_grow() -> None:
    assert diff([0, 1, 5], [False, 1, 2, 5]) == [
        {"op": "replace", "path": "/0", "value": False},
        {"op": "add", "path": "/2", "value": 2},
    ]


def test_a_changed_leaf_is_one_replace() -> None:
    assert diff({"a": {"b": [1, {"c": 2}]}, "d": 3}, {"a": {"b": [1, {"c": 5}]}, "d": 3}) == [
        {"op": "replace", "path": "/a/b/1/c", "value": 5}
    ]


def test_members_come_and_go() -> None:
    assert diff({"a": 1, "b": 2, "c": 3}, {"b": 2, "z": None, "y": 4}) == [
        {"op": "add", "path": "/z", "value": None},
        {"op": "add", "path": "/y", "value": 4},
        {"op": "remove", "path": "/a"},
        {"op": "remove", "path": "/c"},
    ]


def test_the_order_of_members_is_no_difference() -> None:
    assert diff({"a": 1, "b": 2}, {"b": 2, "a": 1}) == []


def test_names_are_escaped_in_pointers() -> None:
    assert ops({}, {"a/b": {}, "m~n": 1, "": 2, "~1": 3}) == [("add", p) for p in ("/a~1b", "/m~0n", "/", "/~01")]


LIST = [{"n": n} for n in range(6)]
NEW: list[Any] = [{"n": "new"}, {"n": "newer"}]


@pytest.mark.parametrize(
    "new, expected",
    [
        pytest.param(LIST + NEW, [("add", "/6"), ("add", "/7")], id="append"),
        pytest.param(NEW + LIST, [("add", "/0"), ("add", "/1")], id="prepend"),
        pytest.param(LIST[:3] + NEW + LIST[3:], [("add", "/3"), ("add", "/4")], id="insert"),
        pytest.param(LIST[:-1], [("remove", "/5")], id="pop"),
        pytest.param(LIST[2:], [("remove", "/0"), ("remove", "/0")], id="pop first"),
        pytest.param(LIST[:2] + LIST[4:], [("remove", "/2"), ("remove", "/2")], id="delete"),
        pytest.param([], [("remove", "/0")] * 6, id="clear"),
        pytest.param(LIST[:3] + NEW[:1] + LIST[4:], [("replace", "/3/n")], id="change"),
        pytest.param(
            LIST[:3] + NEW[:1] + LIST[4:] + NEW[1:], [("replace", "/3/n"), ("add", "/6")], id="change, append"
        ),
        pytest.param(LIST[:2] + NEW[:1] + LIST[4:], [("replace", "/2/n"), ("remove", "/3")], id="two become one"),
    ],
)
def test_a_list_changes_by_few_operations(new: list[Any], expected: list[tuple[str, str]]) -> None:
    new = deepcopy(new)
    assert ops(LIST, new) == expected
    assert apply(LIST, diff(LIST, new)) == new


def test_repeated_items_are_not_counted_from_both_ends() -> None:
    assert ops([1, 1], [1, 1, 1]) == [("add", "/2")]
    assert ops([1, 1, 1], [1]) == [("remove", "/1"), ("remove", "/1")]


def test_what_is_shared_is_not_looked_at() -> None:
    bottomless: list[Any] = []
    for _ in range(5000):
        bottomless = [bottomless]
    assert diff(bottomless, bottomless) == []
    assert ops({"big": bottomless, "n": 1}, {"big": bottomless, "n": 2}) == [("replace", "/n")]
    assert ops([bottomless, 1], [bottomless, 2]) == [("replace", "/1")]
    assert ops([bottomless], [bottomless, 2]) == [("add", "/1")]


def test_other_names_are_another_value() -> None:
    assert not same({"a": 1}, {"b": 1})
    assert ops([{"a": 1}], [{"b": 1}, 2]) == [("add", "/0/b"), ("remove", "/0/a"), ("add", "/1")]


def test_a_tuple_is_not_json_and_is_replaced_whole() -> None:
    assert ops({"t": (0,)}, {"t": (False,)}) == [("replace", "/t")]


def test_values_as_deep_as_can_be_encoded_are_compared_and_patched() -> None:
    deep: Any = 1
    deeper: Any = 2
    for _ in range(125):
        deep, deeper = {"a": [deep]}, {"a": [deeper, 0]}
    assert apply(deep, diff(deep, deeper)) == deeper


# apply: all of RFC 6902


@pytest.mark.parametrize(
    "value, patch, expected",
    [
        pytest.param(
            {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}, id="A.1"
        ),
        pytest.param({"foo": [1, 3]}, [{"op": "add", "path": "/foo/1", "value": 2}], {"foo": [1, 2, 3]}, id="A.2"),
        pytest.param({"baz": 1, "foo": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 2}, id="A.3"),
        pytest.param([1, 2, 3], [{"op": "remove", "path": "/1"}], [1, 3], id="A.4"),
        pytest.param({"baz": 1}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}, id="A.5"),
        pytest.param(
            {"foo": {"bar": 1, "waldo": 2}, "qux": {"corge": 3}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": 1}, "qux": {"corge": 3, "thud": 2}},
            id="A.6",
        ),
        pytest.param([1, 2, 3, 4], [{"op": "move", "from": "/1", "path": "/3"}], [1, 3, 4, 2], id="A.7"),
        pytest.param(
            {"a": [1, {"b": 2.0}]}, [{"op": "test", "path": "/a/1", "value": {"b": 2}}], {"a": [1, {"b": 2}]}, id="A.8"
        ),
        pytest.param(
            {"foo": "bar"}, [{"op": "add", "path": "/x", "value": 1, "xyz": 9}], {"foo": "bar", "x": 1}, id="A.11"
        ),
        pytest.param({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}, id="A.14"),
        pytest.param(["bar"], [{"op": "add", "path": "/-", "value": ["a"]}], ["bar", ["a"]], id="A.16"),
        pytest.param({"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}, id="add replaces a member"),
        pytest.param({"a": 1}, [{"op": "add", "path": "", "value": [1]}], [1], id="add the whole"),
        pytest.param({"a": 1}, [{"op": "replace", "path": "", "value": None}], None, id="replace the whole"),
        pytest.param({"-": 1}, [{"op": "remove", "path": "/-"}], {}, id="a member named -"),
        pytest.param({"": {"": 1}}, [{"op": "replace", "path": "//", "value": 2}], {"": {"": 2}}, id="empty names"),
        pytest.param({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}, id="copy"),
        pytest.param(
            {"a": [1]}, [{"op": "copy", "from": "", "path": "/a/0"}], {"a": [{"a": [1]}, 1]}, id="copy into itself"
        ),
        pytest.param({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}, id="move to where it is"),
        pytest.param({"a": [1]}, [{"op": "move", "from": "/a", "path": ""}], [1], id="move to the top"),
        pytest.param(
            {"ab": 1}, [{"op": "move", "from": "/ab", "path": "/abc"}], {"abc": 1}, id="a name that begins alike"
        ),
        pytest.param([], [], [], id="nothing"),
    ],
)
def test_the_rules_of_rfc_6902(value: object, patch: list[dict[str, Any]], expected: object) -> None:
    before = text(value)
    assert apply(value, patch) == expected
    assert text(value) == before


@pytest.mark.parametrize(
    "value, op",
    [
        ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "bar"}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}),
        ({"a": [0]}, {"op": "test", "path": "/a", "value": [False]}),
        ({"a": 1}, {"op": "test", "path": "", "value": {"a": 1, "b": 2}}),
        ({"a": 1}, {"op": "test", "path": "/b", "value": None}),
        ({"foo": "bar"}, {"op": "add", "path": "/baz/bat", "value": "qux"}),
        ({"foo": "bar"}, {"op": "add", "path": "/foo/bat", "value": "qux"}),
        ({"foo": "bar"}, {"op": "add", "path": "/foo/0", "value": "qux"}),
        ({"a": 1}, {"op": "replace", "path": "/b", "value": 1}),
        ({"a": 1}, {"op": "remove", "path": "/b"}),
        ({"a": 1}, {"op": "remove", "path": "/a/b"}),
        ({"a": 1}, {"op": "remove", "path": ""}),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/b"}),
        ({"a": {"b": 1}}, {"op": "move", "from": "", "path": "/a"}),
        ([[1], [2]], {"op": "move", "from": "/0", "path": "/0/0"}),
        ({"a": {"b": 1}}, {"op": "test", "path": "/a", "value": {"c": 1}}),
        ({"a": 1}, {"op": "move", "from": "/b", "path": "/b"}),
        ({"a": 1}, {"op": "copy", "from": "/b", "path": "/c"}),
        ({"a": 1}, {"op": "copy", "path": "/c"}),
        ({"a": 1}, {"op": "add", "path": "/c"}),
        ({"a": 1}, {"op": "replace", "path": "/a"}),
        ({"a": 1}, {"op": "test", "path": "/a"}),
        ({"a": 1}, {"op": "add", "value": 1}),
        ({"a": 1}, {"path": "/a", "value": 1}),
        ({"a": 1}, {"op": "merge", "path": "/a", "value": 1}),
        ({"a": 1}, {"op": ["add"], "path": "/a", "value": 1}),
        ({"a": 1}, {"op": "add", "path": "a", "value": 1}),
        ({"a": 1}, {"op": "add", "path": "#/a", "value": 1}),
        ({"a": 1}, {"op": "add", "path": None, "value": 1}),
        ({"a": 1}, {"op": "add", "path": ["a"], "value": 1}),
        ({"a": 1}, {"op": "add", "path": "/~", "value": 1}),
        ({"a": 1}, {"op": "add", "path": "/~2", "value": 1}),
        ({"a": 1}, "add"),
        *(
            ([1, 2], {"op": "add", "path": f"/{at}", "value": 0})
            for at in ("3", "-1", "01", "1.0", "+1", " 1", "", "a", "\u0661")
        ),
        *(
            ([1, 2], {"op": "replace", "path": f"/{at}", "value": 0})
            for at in ("2", "-", "-1", "00", "1e0", "9" * 5000)
        ),
        *(([1, 2], {"op": "remove", "path": f"/{at}"}) for at in ("2", "-", "-1", "1_0")),
    ],
)
def test_a_patch_that_does_not_fit_is_an_error(value: object, op: Any) -> None:
    before = text(value)
    with pytest.raises(PatchError):
        apply(value, [{"op": "test", "path": "", "value": value}, op])
    assert text(value) == before


def test_a_patch_that_fails_late_leaves_the_value_as_it_was() -> None:
    value = {"a": [1, {"b": 2}]}
    with pytest.raises(PatchError):
        apply(value, [{"op": "replace", "path": "/a/1/b", "value": 3}, {"op": "remove", "path": "/a/9"}])
    assert value == {"a": [1, {"b": 2}]}


def test_test_compares_numbers_by_value_and_nothing_else() -> None:
    assert apply([1.0, 0.0], [{"op": "test", "path": "", "value": [1, -0.0]}]) == [1.0, 0.0]


def test_what_did_not_change_is_shared() -> None:
    value: dict[str, Any] = {"a": {"x": 1}, "b": {"y": [1]}}
    result = apply(value, [{"op": "replace", "path": "/a/x", "value": 2}])
    assert result["b"] is value["b"]
    assert result["a"] is not value["a"]


def test_a_copy_and_its_source_part_ways() -> None:
    patch: list[dict[str, Any]] = [
        {"op": "add", "path": "/a/-", "value": 2},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/-", "value": 3},
        {"op": "add", "path": "/a/-", "value": 4},
    ]
    assert apply({"a": [1]}, patch) == {"a": [1, 2, 4], "b": [1, 2, 3]}


def test_a_copy_into_its_changed_source_does_not_hold_itself() -> None:
    patch = [{"op": "remove", "path": "/a/x"}, {"op": "copy", "from": "/a", "path": "/a/y"}]
    assert apply({"a": {"x": 1, "z": 2}}, patch) == {"a": {"z": 2, "y": {"z": 2}}}


def test_one_value_added_twice_parts_ways() -> None:
    empty: list[int] = []
    patch: list[dict[str, Any]] = [
        {"op": "add", "path": "/a", "value": empty},
        {"op": "add", "path": "/b", "value": empty},
        {"op": "add", "path": "/a/-", "value": 1},
    ]
    assert apply({}, patch) == {"a": [1], "b": []}
    assert empty == []


@st.composite
def documents_with_patches(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]]]:
    """Small values and random operations on pointers that are often right."""
    value = draw(st.dictionaries(st.sampled_from("ab"), small, min_size=1))
    path = st.lists(st.sampled_from(["a", "b", "0", "1", "-"]), min_size=1, max_size=3).map(lambda t: "/" + "/".join(t))
    patch = []
    for verb in draw(st.lists(st.sampled_from(["add", "remove", "replace", "move", "copy"]), max_size=5)):
        op: dict[str, Any] = {"op": verb, "path": draw(path)}
        if verb in {"add", "replace"}:
            op["value"] = draw(small)
        elif verb in {"move", "copy"}:
            op["from"] = draw(path)
        patch.append(op)
    return value, patch


@given(documents_with_patches())
def test_apply_agrees_with_another_library_and_changes_no_input(case: tuple[Any, list[dict[str, Any]]]) -> None:
    value, patch = case
    before = text([value, patch])
    try:
        expected: object = text(jsonpatch.apply_patch(value, deepcopy(patch)))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError):
        expected = PatchError
    try:
        result: object = text(apply(value, patch))
    except PatchError:
        result = PatchError
    assert text([value, patch]) == before
    assert result == expected


# keyframes


def whole(value: object) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": "", "value": value}]


BIG = {"lines": ["x" * 50 for _ in range(20)], "n": 0}


def test_the_first_version_is_a_keyframe() -> None:
    assert step(None, BIG, None) == (whole(BIG), True)
    assert step(BIG, BIG, None) == (whole(BIG), True)


def test_a_small_change_of_a_large_value_is_a_patch() -> None:
    assert step(BIG, BIG | {"n": 1}, 0) == ([{"op": "replace", "path": "/n", "value": 1}], False)


def test_no_change_is_no_patch() -> None:
    assert step(BIG, deepcopy(BIG), 10**9) == ([], False)


def test_a_patch_longer_than_the_value_is_a_keyframe() -> None:
    assert step({"n": 0}, {"n": 1}, 0) == (whole({"n": 1}), True)


def test_a_keyframe_comes_when_the_patches_together_exceed_the_value() -> None:
    new = BIG | {"n": 1}
    room = size_bytes(new) - size_bytes(diff(BIG, new))
    assert step(BIG, new, room) == (diff(BIG, new), False)
    assert step(BIG, new, room + 1) == (whole(new), True)


def test_sizes_are_those_of_compact_utf8_json() -> None:
    value = {"a": [1, True, None, 0.5], "é": "€\n"}
    assert size_bytes(value) == len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


@given(st.lists(values, min_size=1, max_size=8))
def test_a_slice_is_replayed_from_its_last_keyframe_at_twice_its_size_at_most(versions: list[Any]) -> None:
    old, since = None, None
    journal: list[Any] = []
    for new in versions:
        patch, keyframe = step(old, new, since)
        if keyframe:
            journal, since = [patch], 0
        elif patch:
            journal.append(patch)
            since = (since or 0) + size_bytes(patch)
        assert (since or 0) <= size_bytes(new) or not patch
        replayed: Any = "nothing before a keyframe counts"
        for each in journal:
            replayed = apply(replayed, each)
        assert text(replayed) == text(new)
        old = new
