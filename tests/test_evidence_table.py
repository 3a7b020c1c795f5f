"""The table of evidence, as a person reads it: failed checks first, whole values, one finding per line."""

from __future__ import annotations

import re

import pytest
from html_tags import Tags

from runbook_lib.checks import Checks
from runbook_lib.errors import VerificationFailed
from runbook_lib.plan import Change, Plan
from runbook_lib.tables import Result, Table, Text

ARN = "arn:aws:kms:eu-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def mixed():
    """Return checks of which the second and the fourth fail."""
    checks = Checks("the cluster")
    checks.equal("one", 1, 1, source="rds:DescribeDBClusters")
    checks.equal("two", ARN, "another key", source="kms:DescribeKey")
    checks.equal("three", ARN, ARN, source="kms:DescribeKey")
    checks.equal("four", "on", "off", source="rds:DescribeDBClusters")
    return checks


def test_failed_checks_stand_first_in_red_and_in_words():
    """In the same table; the others keep their order; `rows`, for the report's data, keeps all in order."""
    html = mixed()._repr_html_()
    claims = re.findall(r">(one|two|three|four)<", html)
    assert ["two", "four", "one", "three"] == claims
    assert 2 == len(re.findall(r"color:#dc3e46\">✗ FAILED<", html))
    assert ["two", "four", "one", "three"] == [line.split()[1] for line in repr(mixed()).splitlines()[2:]]
    assert ["one", "two", "three", "four"] == [check.claim for check in mixed().rows]


def test_columns_have_fixed_widths_and_words_break():
    """The widths make up the whole table, so that it is never wider than the page."""
    html = mixed()._repr_html_()
    assert "table-layout:fixed;width:100%" in html
    widths = [int(width) for width in re.findall(r"<th [^>]*width:(\d+)%", html)]
    assert (5, 100) == (len(widths), sum(widths))
    assert "min-width" not in html
    assert "overflow-wrap:break-word" in html  # an untrusted page loses "anywhere"
    assert "anywhere" not in html


def test_a_long_arn_is_short_with_the_whole_in_a_title_but_never_where_it_is_evidence():
    """What was expected is shortened; what was found stands there whole."""
    html = mixed()._repr_html_()
    short = "arn:…:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    assert 2 == html.count(f'<span title="{ARN}">{short}</span>')
    assert f">{ARN}</td>" in html


def test_a_value_beside_an_arn_stays_text():
    """Shortening makes no markup of what stands around an ARN, or inside it."""
    checks = Checks("x")
    checks.equal("c", f'<img src=x> {ARN}"><b>', "y", source="s")
    assert "img []" not in Tags(checks._repr_html_()).tags
    assert "<img" not in checks._repr_html_()


def test_the_error_has_one_finding_per_line():
    """In a notebook; as text, for a log, it stays one line."""
    with pytest.raises(VerificationFailed) as failed:
        mixed().require_passed()
    shown = failed.value._render_traceback_()
    assert 3 == len(shown)
    assert "2 checks FAILED" in shown[0]
    assert ["two (expected", "four (expected"] == [
        line.strip(" ✗")[: line.index("(") + 5].split(" arn")[0].split(" on")[0] for line in shown[1:]
    ]
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    "shown",
    [
        mixed(),
        Table("Costs", ("what",), [("$1.00 a month",), ("$0.40 a month",)]),
        Text("Costs", "$1.00 and $0.40"),
        Plan("01", (Change("create", "key", "k", "$1.00 or $2.00"),), cost="$1.00 a month, $0.40 an hour"),
    ],
)
def test_a_dollar_is_no_mathematics_in_jupyterlab(shown):
    """MathJax leaves out what has this class; without it, the text between two dollars becomes a formula."""
    assert 'class="mathjax_ignore"' in shown._repr_html_().split(">")[0]


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("arn:aws:kms:eu-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab", id="ARN"),
        pytest.param("898ff0a95255a0908d02c40fc11111709b0ea7524a3f3c738e2e575400f6c26d", id="hexadecimal"),
        pytest.param("/home/someone/" + "a-folder/" * 9 + "KeyMaterial.bin", id="path"),
    ],
)
def test_a_long_word_in_any_table_can_be_broken_by_tags_that_an_untrusted_page_keeps(word):
    """JupyterLab drops `overflow-wrap:anywhere` from an untrusted page; the tag `wbr` stays, and is no part of the text."""
    html = Table("c", ("a", "b"), [(word, "rds:DescribeDBClusterParameterGroups")])._repr_html_()
    assert "anywhere" not in html
    shown = re.search(r"<td[^>]*>(.*?)</td>", html)[1]
    assert max(map(len, shown.split("<wbr>"))) <= 18
    assert shown.replace("<wbr>", "") == word
    assert ">rds:DescribeDBClusterParameterGroups</td>" in html


def test_a_long_word_of_markup_stays_text():
    word = "<img src=x>" + "<b>" * 20 + "&amp;" * 9
    tags = Tags(Table("c", ("a",), [(word,)])._repr_html_()).tags
    assert tags == Tags(Table("c", ("a",), [("word",)])._repr_html_()).tags


def test_a_result_is_its_value_and_reads_as_a_sentence_with_the_value_in_bold():
    result = Result("Enabled", "The key is {}.")
    assert (result, f"{result}", repr(result)) == ("Enabled", "Enabled", "The key is Enabled.")
    assert "The key is <b>Enabled</b>." in result._repr_html_()
    assert "<b>&lt;i&gt;</b>" in Result("<i>", "It is {}.")._repr_html_()
