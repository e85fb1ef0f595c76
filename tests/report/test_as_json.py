import dataclasses
import json
import math

from cachescope.core.results import Report
from cachescope.report import report_to_json
from report.reports import cache, event, report, shop


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
