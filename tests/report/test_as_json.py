import dataclasses
import json
import math

from cachescope.core.results import Report
from cachescope.report import only, report_to_json
from report.analyses import USERS
from report.reports import cache, event, report, shop
from report.shops import full_shop


def test_json_names_its_schema_first_and_holds_the_whole_report():
    document = json.loads(report_to_json(shop()))
    assert list(document)[:2] == ["schema", "schema_version"]
    assert document["schema"] == "cachescope.report"
    assert document["schema_version"] == 1
    assert set(document) == {"schema", "total_bytes"} | {field.name for field in dataclasses.fields(Report)}
    assert document["total_bytes"] == shop().total_bytes
    assert document["caches"][0]["hit_ratio"] == shop().caches[0].hit_ratio
    assert document["patterns"][0]["key_pattern"] == "sess:{hex32}"
    assert document["caches"][1]["events"][0]["event_type"] == "allocation"


def test_json_round_trips():
    text = report_to_json(shop())
    assert json.loads(text) == json.loads(json.dumps(json.loads(text)))
    assert json.loads(report_to_json(shop(), indent=None)) == json.loads(text)
    assert "\n" not in report_to_json(shop(), indent=None)


def test_json_has_no_word_for_infinity_and_nan():
    odd = cache(max_entries=math.inf, own_size=math.nan, events=(event(metadata={"a": math.inf, "b": object}),))
    document = json.loads(report_to_json(report(odd)), parse_constant=lambda word: pytest_fail(word))
    assert document["caches"][0]["max_entries"] is None
    assert document["caches"][0]["own_size"] is None
    assert document["caches"][0]["events"][0]["metadata"] == {"a": None, "b": "<class 'object'>"}


def pytest_fail(word):
    raise AssertionError(f"{word} is no JSON")


def test_json_is_ascii_whatever_the_names():
    name = "\x1b[31m\n\ud800漢"
    text = report_to_json(report(cache(name)))
    assert text.isascii()
    assert json.loads(text)["caches"][0]["cache_name"] == name


def strict(text):
    return json.loads(text, parse_constant=lambda word: pytest_fail(word))


def test_json_holds_all_analyses_by_their_names():
    """What a person reads in sections, a program finds under the same figures."""
    document = strict(report_to_json(full_shop()))
    assert document["trends"][0]["cache_name"] is None
    assert document["trends"][0]["verdict"] == "growing"
    assert document["trends"][7]["verdict"] == "not enough to say"
    assert document["trends"][6]["shifts"][0]["after"] == 6 * (1 << 20)
    assert document["keys"][0]["key_id"] == "9f2c41d80a33b1e7"
    assert document["origins"][0]["built_at"] == "shop/auth.py:203 Session.from_cookie"
    assert document["allocation_patterns"][0]["lifetimes"][1]["age_seconds"]["p50"] == 121.0
    assert document["allocation_patterns"][0]["entry_bytes"]["histogram"][0]["count"] == 310
    assert document["performance"][0]["operations"][0]["seconds"]["p999"] > 0
    assert document["operations"][1]["errors"] == [["PaymentError", 7], ["CancelledError", 2]]
    assert document["snapshots"][0]["gc"][0]["collections"] == 2_113
    assert document["pressure"][0]["event_type"] == "pressure"
    assert document["pressure"][0]["metadata"]["level"] == "high"
    assert document["processes"][0]["collects"][0] == "latency on a sample"


def test_json_of_one_cache_leaves_all_others_out():
    """The process's own memory stays: it is the cache's surroundings, and no other cache."""
    whole = full_shop()
    document = strict(report_to_json(only(whole, USERS)))
    for key in ("caches", "patterns", "sites", "keys", "origins", "allocation_patterns", "performance", "operations"):
        assert {row["cache_name"] for row in document[key]} == {USERS}, key
    assert {row["cache_name"] for row in document["trends"]} == {None, USERS}
    assert {use["cache_name"] for one in document["snapshots"] for use in one["caches"]} == {USERS}
    assert document["snapshots"][0]["cache_bytes"] == whole.snapshots[0].cache_bytes
    assert {event["metadata"]["scope"] for event in document["pressure"]} == {"container"}
    assert len(document["processes"]) == len(whole.processes)
