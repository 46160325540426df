from __future__ import annotations

import pytest
from eniplug_ip_quota import IpQuota, QuotaError

from eniplug.testing.builders import a_pod, a_pool
from eniplug.testing.conformance import conformance

TestConformance = conformance(IpQuota)
WEB = [a_pod(number, namespace="web") for number in range(3)]


def test_below_the_limit_the_next_plugin_gives_the_address() -> None:
    assert IpQuota(limit=2).allocate_ip(WEB[1], a_pool(WEB[0])) is None


def test_the_pod_that_would_be_one_too_many_is_refused_with_the_reason() -> None:
    with pytest.raises(QuotaError, match=r"web has 2 addr.* of 2 allowed") as why:
        IpQuota(limit=2).allocate_ip(WEB[2], a_pool(*WEB[:2]))

    assert why.value.reason == "ip-quota"
    assert why.value.code == 11


def test_other_namespaces_pods_do_not_count() -> None:
    others = [a_pod(number, namespace="db") for number in range(5)]

    assert IpQuota(limit=2).allocate_ip(WEB[0], a_pool(*others)) is None


def test_a_limit_for_one_namespace_leaves_the_others_alone() -> None:
    quota = IpQuota(limit=0, namespace="db")

    assert quota.allocate_ip(WEB[0], a_pool()) is None
    with pytest.raises(QuotaError):
        quota.allocate_ip(a_pod(namespace="db"), a_pool())


def test_a_pod_whose_namespace_is_not_known_is_let_pass() -> None:
    assert IpQuota(limit=0).allocate_ip(a_pod(namespace=""), a_pool()) is None
