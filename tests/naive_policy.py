"""A slow, plain evaluator of key policies, to hold the library's against: it imports nothing of it.

Written from the IAM user guide alone (policy evaluation logic, condition operators, single-valued and multivalued
context keys, Principal, NotPrincipal), one rule after the other, without any care for speed or form.
"""

# ruff: noqa: SIM110 - one rule after the other, on purpose

from __future__ import annotations

import base64
import re
from datetime import datetime
from ipaddress import ip_address, ip_network


def many(thing):
    if thing is None:
        return []
    return thing if isinstance(thing, list) else [thing]


def glob(pattern, text):
    expression = ""
    for letter in pattern:
        if letter in "\x01\x02":
            expression += r"\*" if letter == "\x01" else r"\?"
        elif letter == "*":
            expression += "(?s:.)*"
        elif letter == "?":
            expression += "(?s:.)"
        else:
            expression += re.escape(letter)
    return re.fullmatch(expression, text) is not None


def as_string(thing):
    if thing is True:
        return "true"
    if thing is False:
        return "false"
    return f"{thing}"


def moment(text):
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    if "T" not in text:
        text += "T00:00:00Z"
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def put_in(text, request):
    """Replace the policy variables, once; a wildcard in what is put in is written as a control character."""
    done = ""
    while "${" in text and "}" in text.split("${", 1)[1]:
        before, rest = text.split("${", 1)
        name, text = rest.split("}", 1)
        value = None
        if name in ("*", "?", "$"):
            value = name
        else:
            for known in request:
                if known.casefold() == name.split(",")[0].strip().casefold() and not isinstance(request[known], list):
                    value = as_string(request[known])
            if value is None and "," in name:
                value = name.split(",")[1].strip().strip("'")
        if value is None:
            return "\x03 matches nothing"
        done += before + value.replace("*", "\x01").replace("?", "\x02")
    return done + text


def compares(operator, asked, got):
    """One value of the policy against one value of the request; the operator without Not, IfExists and For…."""
    if operator in ("StringEquals", "StringEqualsIgnoreCase", "Bool"):
        asked = asked.replace("\x01", "*").replace("\x02", "?")
    if operator == "StringEquals":
        return asked == got
    if operator == "StringEqualsIgnoreCase":
        return asked.casefold() == got.casefold()
    if operator == "StringLike":
        return glob(asked, got)
    if operator == "Bool":
        return asked.casefold() == got.casefold()
    if operator == "BinaryEquals":
        try:
            return base64.b64decode(asked) == base64.b64decode(got, validate=True)
        except ValueError:
            return False
    if operator in ("ArnEquals", "ArnLike"):
        if asked == "*":
            return got.startswith("arn:")
        one, two = re.split(":", asked, maxsplit=5), re.split(":", got, maxsplit=5)
        if len(one) != 6 or len(two) != 6:
            return False
        for left, right in zip(one, two, strict=True):
            if not glob(left, right):
                return False
        return True
    if operator == "IpAddress":
        try:
            return ip_address(got) in ip_network(asked, strict=False)
        except ValueError:
            return False
    if operator.startswith("Numeric"):
        reader, rest = float, operator[len("Numeric") :]
    else:
        reader, rest = moment, operator[len("Date") :]
    try:
        value = reader(got)
    except ValueError:
        return False
    limit = reader(asked)
    if rest == "Equals":
        return value == limit
    if rest == "LessThan":
        return value < limit
    if rest == "LessThanEquals":
        return not value > limit
    if rest == "GreaterThan":
        return value > limit
    if rest == "GreaterThanEquals":
        return not value < limit
    raise AssertionError(operator)


def one_test_is_true(written, asked, request, key):
    """An operator as written, the policy's values, the request's context, and the key to look for."""
    got = None
    for known in request:
        if known.casefold() == key.casefold():
            got = request[known]
    asked = [put_in(as_string(each), request) for each in many(asked)]
    got = [as_string(each) for each in many(got)]
    if written == "Null":
        for each in asked:
            if each.casefold() == "true" and got == []:
                return True
            if each.casefold() == "false" and got != []:
                return True
        return False
    name, group = written, None
    if name.startswith("ForAllValues:"):
        name, group = name[13:], "all"
    elif name.startswith("ForAnyValue:"):
        name, group = name[12:], "any"
    if group is not None:
        got = [each for each in got if each != ""]
    if name.endswith("IfExists"):
        name = name[:-8]
        if got == []:
            return True
    unlike = "Not" in name
    name = name.replace("Not", "")
    if group == "all":
        for value in got:
            found = False
            for each in asked:
                if compares(name, each, value):
                    found = True
            if found == unlike:
                return False
        return True
    if group == "any":
        for value in got:
            found = False
            for each in asked:
                if compares(name, each, value):
                    found = True
            if found != unlike:
                return True
        return False
    matched = False
    for value in got:
        for each in asked:
            if compares(name, each, value):
                matched = True
    if unlike:
        return not matched
    return matched


def condition_is_true(condition, request):
    for written in condition:
        for key in condition[written]:
            if not one_test_is_true(written, condition[written][key], request, key):
                return False
    return True


def action_fits(statement, action):
    if "Action" in statement:
        for pattern in many(statement["Action"]):
            if glob(pattern.casefold(), action.casefold()):
                return True
        return False
    if "NotAction" in statement:
        for pattern in many(statement["NotAction"]):
            if glob(pattern.casefold(), action.casefold()):
                return False
        return True
    return False


def resource_fits(statement, resource):
    if "Resource" in statement:
        for pattern in many(statement["Resource"]):
            if glob(pattern, resource):
                return True
        return False
    if "NotResource" in statement:
        for pattern in many(statement["NotResource"]):
            if glob(pattern, resource):
                return False
        return True
    return False


def says(element, kind):
    if element == "*":
        return ["*"] if kind == "AWS" else []
    return many(element.get(kind))


def account_is_in(names, account):
    for name in names:
        if name == account:
            return True
        if name.startswith("arn:") and name.endswith(f":iam::{account}:root"):
            return True
    return False


def principal_fits(statement, who):
    """Return "self", "account" or "no". `who` has arns, account and service."""
    negated = "NotPrincipal" in statement
    element = statement["NotPrincipal"] if negated else statement.get("Principal", {})
    names = says(element, "AWS")
    services = says(element, "Service")
    if negated:
        if "*" in names:
            return "no"
        if who["service"]:
            return "no" if who["service"] in services else "self"
        if not account_is_in(names, who["account"]):
            return "self"
        for arn in who["arns"]:
            if arn not in names:
                return "self"
        return "no"
    if "*" in names:
        return "self"
    if who["service"] and who["service"] in services:
        return "self"
    for arn in who["arns"]:
        if arn in names:
            return "self"
    if who["account"] and account_is_in(names, who["account"]):
        return "account"
    return "no"


def decision(policy, who, action, resource, request):
    """Return "Deny", "Allow", "Account" (IAM policies of the account decide) or "None"."""
    denied = allowed = account = False
    for statement in many(policy["Statement"]):
        how = principal_fits(statement, who)
        if how == "no":
            continue
        if not action_fits(statement, action):
            continue
        if not resource_fits(statement, resource):
            continue
        if not condition_is_true(statement.get("Condition", {}), request):
            continue
        if statement["Effect"] == "Deny":
            denied = True
        elif how == "self":
            allowed = True
        else:
            account = True
    if denied:
        return "Deny"
    if allowed:
        return "Allow"
    if account:
        return "Account"
    return "None"
